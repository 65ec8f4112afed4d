package exporter

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// maxFindings is how many findings are kept; the rest is only counted.
const maxFindings = 1000

// examination is what programs read of a check.
type examination struct {
	Path        string    `json:"path"`
	Corruptions int       `json:"corruptions"`
	Leaks       int       `json:"leaks"`
	Findings    []finding `json:"findings,omitempty"`
}

type finding struct {
	Severity string `json:"severity"`
	Offset   int64  `json:"offset"`
	Text     string `json:"text"`
}

func (a *app) checkCommand() *cobra.Command {
	var f imageFlags
	var from string
	c := &cobra.Command{
		Use: "check IMAGE", Short: "Examine the structure of a disk image", Args: cobra.ExactArgs(1),
		Long: `check examines an image's checksums and tables: entries that point outside the file or at each other's content, and room that nothing uses. It
changes nothing and opens no other file.

Exit code: 0 nothing found, 1 something found, 2 the image could not be examined.`,
		Example: `  hyperexport check disk.qcow2`,
		RunE: func(c *cobra.Command, args []string) error {
			img, err := f.image(args[0], from)
			if err != nil {
				return err
			}
			e := examination{Path: args[0]}
			if err := a.engine.Check(c.Context(), img, e.add); err != nil {
				return fault.As(fault.InvalidArgument, err, "check")
			}
			slices.SortFunc(e.Findings, func(x, y finding) int { return cmp.Compare(x.Offset, y.Offset) })
			if err := output.WriteValue(c.OutOrStdout(), a.format, e, e.rows); err != nil {
				return err
			}
			if e.Corruptions+e.Leaks > 0 {
				return fault.New(fault.Unknown, "%s: %d corruptions, %d leaks", args[0], e.Corruptions, e.Leaks)
			}
			return nil
		},
	}
	f.bind(c)
	c.Flags().StringVar(&from, "from", "", "`format` of the image (default: found by looking)")
	complete(c, "from", a.engine.Readable()...)
	return c
}

func (e *examination) add(f image.Finding) {
	if f.Severity == image.Leak {
		e.Leaks++
	} else {
		e.Corruptions++
	}
	if len(e.Findings) < maxFindings {
		e.Findings = append(e.Findings, finding{f.Severity.String(), f.Offset, f.Text})
	}
}

func (e *examination) rows() output.Rows {
	var r output.Rows
	if e.Corruptions+e.Leaks == 0 {
		r.Add("nothing found")
		return r
	}
	r.Header = []string{"SEVERITY", "OFFSET", "WHAT"}
	for _, f := range e.Findings {
		r.Add(f.Severity, fmt.Sprint(f.Offset), f.Text)
	}
	return r
}
