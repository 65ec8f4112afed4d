package guestfs

import (
	"regexp"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Filter names paths of a file system.
type Filter []*regexp.Regexp

// maxFilterLines bounds a filter.
const maxFilterLines = 10000

// CompileFilter makes a filter of regular expressions. Each begins at the beginning of the path, and need not reach to its end.
func CompileFilter(lines []string) (Filter, error) {
	if len(lines) > maxFilterLines {
		return nil, fault.New(fault.InvalidArgument, "filter_lines: %d lines; %d is the most", len(lines), maxFilterLines)
	}
	var f Filter
	for i, line := range lines {
		if line == "!" {
			return nil, fault.New(fault.Unimplemented, "filter_lines[%d]: filters that begin with \"!\" and name what to keep are not available", i)
		}
		if line == "" {
			return nil, fault.New(fault.InvalidArgument, "filter_lines[%d]: is empty, which would name everything", i)
		}
		re, err := regexp.Compile("^(?:" + line + ")")
		if err != nil {
			return nil, fault.As(fault.InvalidArgument, err, "filter_lines[%d]", i)
		}
		f = append(f, re)
	}
	return f, nil
}

// Match reports whether the filter names a path.
func (f Filter) Match(path string) bool {
	for _, re := range f {
		if re.MatchString(path) {
			return true
		}
	}
	return false
}
