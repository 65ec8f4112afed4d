// Package undo keeps the steps that take back a half-done change of the host.
package undo

import (
	"context"
	"errors"
	"slices"
)

// Stack holds undo steps; the last one added runs first. The zero value is ready to use. It is not safe for concurrent use.
//
//	var u undo.Stack
//	defer u.Run(ctx)
//	… make a file; u.Add(func(context.Context) error { return os.Remove(name) }) …
//	u.Commit()
type Stack struct {
	steps []func(context.Context) error
}

// Add puts a step on the stack.
func (s *Stack) Add(step func(context.Context) error) { s.steps = append(s.steps, step) }

// Commit forgets all steps: the change stands.
func (s *Stack) Commit() { s.steps = nil }

// Run takes the steps back in reverse order and joins their errors. The context's cancellation does not reach the steps:
// what was begun must be taken back even if the caller has gone.
func (s *Stack) Run(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, step := range slices.Backward(s.steps) {
		errs = append(errs, step(ctx))
	}
	s.steps = nil
	return errors.Join(errs...)
}
