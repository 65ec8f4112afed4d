package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// detachKey is what ends the connection from a terminal: Ctrl-].
const detachKey = 0x1d

func (a *app) consoleCommand() *cobra.Command {
	var takeover bool
	var waitFor string
	c := &cobra.Command{
		Use: "console VM", Short: "Connect to a VM's serial port", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVMs,
		Long: `Connect to a VM's serial port. On a terminal, Ctrl-] detaches. With input from a pipe the connection ends when the VM's side does, or
when the text of --until has come.`,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := hypervisorv1.NewConsoleServiceClient(cc).ConnectToVmSerialPort(ctx)
			if err != nil {
				return err
			}
			if err := stream.Send(&hypervisorv1.ConnectToVmSerialPortRequest{Vm: args[0], Takeover: takeover}); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			restore, err := rawTerminal(c)
			if err != nil {
				return err
			}
			defer restore()
			detached := make(chan struct{})
			go func() {
				if sendKeys(c.InOrStdin(), stream) {
					close(detached)
					cancel()
				}
			}()
			return show(stream, c.OutOrStdout(), waitFor, detached)
		}),
	}
	c.Flags().BoolVar(&takeover, "takeover", false, "end another connection to the port")
	c.Flags().StringVar(&waitFor, "until", "", "end when this `text` has come")
	return c
}

// rawTerminal hands every key through, if input is a terminal, and returns what puts the terminal back.
func rawTerminal(c *cobra.Command) (restore func(), err error) {
	in, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return func() {}, nil
	}
	fmt.Fprintln(c.ErrOrStderr(), "connected; Ctrl-] detaches")
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fault.Wrap(err, "terminal")
	}
	return func() {
		_ = term.Restore(int(in.Fd()), state) // nothing else could be done about it
		fmt.Fprintln(c.ErrOrStderr())
	}, nil
}

// sendKeys sends input until it ends or the detach key comes, and says whether it was the key.
func sendKeys(in io.Reader, stream grpc.BidiStreamingClient[hypervisorv1.ConnectToVmSerialPortRequest, hypervisorv1.ConnectToVmSerialPortResponse]) bool {
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		keys, _, detach := bytes.Cut(buf[:n], []byte{detachKey})
		if len(keys) > 0 && stream.Send(&hypervisorv1.ConnectToVmSerialPortRequest{Data: keys}) != nil {
			return false // the receiving side says why
		}
		if detach {
			return true
		}
		if err != nil {
			_ = stream.CloseSend() // the receiving side goes on
			return false
		}
	}
}

// show writes what the VM says until it ends, the user detaches, or the text has come.
func show(
	stream grpc.BidiStreamingClient[hypervisorv1.ConnectToVmSerialPortRequest, hypervisorv1.ConnectToVmSerialPortResponse],
	out io.Writer, waitFor string, detached <-chan struct{},
) error {
	var tail []byte
	for {
		m, err := stream.Recv()
		select {
		case <-detached:
			return nil
		default:
		}
		if errors.Is(err, io.EOF) {
			if waitFor != "" {
				return fault.New(fault.Aborted, "the connection ended before %q came", waitFor)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := out.Write(m.GetData()); err != nil {
			return err
		}
		if waitFor == "" {
			continue
		}
		if tail = append(tail, m.GetData()...); bytes.Contains(tail, []byte(waitFor)) {
			return nil
		}
		tail = tail[max(0, len(tail)-len(waitFor)):]
	}
}
