package parity_test

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/options/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

// render writes API_CHECKLIST.md.
func render(r *results) string {
	var b strings.Builder
	b.WriteString(`# API checklist

Made by ` + "`make checklist`" + ` from the schema and from what the parity test saw; do not edit.
*works*: the test called it over that transport against a whole server and the effect was right. *not yet*: it answers UNIMPLEMENTED
(on SRPC: an error). *n/a*: the transport has no such method.

Access: authenticated = any user; owner = the VM's owner; owner or token = or the bearer of its access token; private = method power;
local = only on the host itself; open reads = may be opened to callers without a credential.
`)
	all := methods()
	slices.SortFunc(all, func(a, b protoreflect.MethodDescriptor) int {
		return strings.Compare(sortKey(a), sortKey(b))
	})
	pkg := protoreflect.FullName("")
	total, working := 0, map[string]int{}
	for _, m := range all {
		if p := m.ParentFile().Package(); p != pkg {
			pkg = p
			fmt.Fprintf(&b, "\n## %s\n\n| API | service | access | gRPC | REST | SRPC gob | SRPC JSON |\n|---|---|---|---|---|---|---|\n", p)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |", m.Name(), m.Parent().Name(), accessText(intercept.MethodRules(m)))
		total++
		for _, c := range columns() {
			cell := r.cells[m.FullName()][c]
			if cell == works {
				working[c]++
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n%d methods;", total)
	for i, c := range columns() {
		sep := ","
		if i == 0 {
			sep = ""
		}
		fmt.Fprintf(&b, "%s %d work over %s", sep, working[c], c)
	}
	b.WriteString(".\n")
	return b.String()
}

// sortKey puts the hypervisor's package first and keeps a service's methods together.
func sortKey(m protoreflect.MethodDescriptor) string {
	order := map[protoreflect.FullName]string{"hyperplane.hypervisor.v1": "0", "hyperplane.export.v1": "1", "hyperplane.admin.v1": "2"}
	return order[m.ParentFile().Package()] + string(m.Parent().Name()) + "/" + string(m.Name())
}

func accessText(r *optionsv1.MethodRules) string {
	texts := []string{enumtext.Of(r.GetAccess())}
	if r.GetVmAccess() != optionsv1.Access_ACCESS_UNSPECIFIED {
		texts = append(texts, enumtext.Of(r.GetVmAccess()))
	}
	if r.GetLocalOnly() {
		texts = append(texts, "local")
	}
	if r.GetRootCookie() {
		texts = append(texts, "root cookie")
	}
	if r.GetOpenReads() {
		texts = append(texts, "open reads")
	}
	return strings.Join(texts, ", ")
}
