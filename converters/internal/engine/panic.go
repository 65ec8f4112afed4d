package engine

import (
	"runtime/debug"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Protect runs fn and makes an error of a panic in it. It is for the edges behind which bytes from outside are parsed: a mistake there must cost the one image,
// not the process.
func Protect(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Internal, "the image made the program fail; please report it: %v\n%s", p, debug.Stack())
		}
	}()
	return fn()
}
