// Package output writes answers: as tables for people, as JSON or YAML for programs.
package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Format is how answers are written.
type Format string

// The formats.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// String implements pflag.Value.
func (f *Format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *Format) Type() string { return "format" }

// Set implements pflag.Value.
func (f *Format) Set(s string) error {
	switch Format(s) {
	case Table, JSON, YAML:
		*f = Format(s)
		return nil
	default:
		return fault.New(fault.InvalidArgument, "%q is not table, json or yaml", s)
	}
}

// Bind adds the -o flag, with a long name.
func (f *Format) Bind(c *cobra.Command, name string) {
	*f = Table
	c.PersistentFlags().VarP(f, name, "o", "table, json or yaml")
	_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)) // the flag was just made
}

// Rows is a table: a header and what stands below it.
type Rows struct {
	Header []string
	Cells  [][]string
}

// Add adds a row.
func (r *Rows) Add(cells ...string) { r.Cells = append(r.Cells, cells) }

// Write writes a message, or the table made of it.
func Write(w io.Writer, f Format, m proto.Message, table func() Rows) error {
	if f == Table {
		return writeTable(w, table())
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return err
	}
	return writeJSON(w, f, raw)
}

// WriteValue writes a Go value, or the table made of it.
func WriteValue(w io.Writer, f Format, v any, table func() Rows) error {
	if f == Table {
		return writeTable(w, table())
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeJSON(w, f, raw)
}

// writeJSON writes JSON, indented, or as YAML in the same order.
func writeJSON(w io.Writer, f Format, raw []byte) error {
	if f == YAML {
		var doc yaml.Node // JSON is YAML; a node keeps the order of the keys
		if err := yaml.Unmarshal(raw, &doc); err != nil {
			return err
		}
		plain(&doc)
		e := yaml.NewEncoder(w)
		e.SetIndent(2)
		return e.Encode(&doc)
	}
	var v json.RawMessage = raw
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// plain takes away the style of JSON.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		plain(c)
	}
}

func writeTable(w io.Writer, r Rows) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Header) > 0 {
		fmt.Fprintln(t, strings.Join(r.Header, "\t"))
	}
	for _, cells := range r.Cells {
		for i, c := range cells {
			if c == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}
