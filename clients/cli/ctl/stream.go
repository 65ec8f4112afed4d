package ctl

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// receiver is the receiving side of a stream.
type receiver[M any] interface{ Recv() (M, error) }

// each calls do for every message, until the stream ends or do fails.
func each[M any](stream receiver[M], do func(M) error) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(m); err != nil {
			return err
		}
	}
}

// writeData writes what a stream brings, until it ends.
func writeData[M interface{ GetData() []byte }](w io.Writer, stream receiver[M]) error {
	return each(stream, func(m M) error {
		_, err := w.Write(m.GetData())
		return err
	})
}

// sendData sends what r has, as it comes, until r ends or send fails; the receiving side says why it did.
func sendData(r io.Reader, send func([]byte) error) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && send(buf[:n]) != nil || err != nil {
			return
		}
	}
}

// toFinal shows the progress that a stream tells, and calls do for each message up to the final one.
func toFinal[M interface {
	GetProgressMessage() string
	GetFinal() bool
}](c *cobra.Command, stream receiver[M], do func(M) error) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if text := m.GetProgressMessage(); text != "" {
			fmt.Fprintln(c.ErrOrStderr(), text)
		}
		if err := do(m); err != nil || m.GetFinal() {
			return err
		}
	}
}
