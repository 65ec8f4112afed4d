package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func (a *app) vncCommand() *cobra.Command {
	var listen string
	var once bool
	c := &cobra.Command{
		Use: "vnc VM", Short: "Offer a VM's display to a VNC viewer on this computer", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVMs,
		Long: `Listen for VNC viewers on this computer and connect each to the VM's display through the server. The VM must run and have the console
type vnc (hyperctl vm create --console vnc). Ends with Ctrl-C.`,
		Example: `  hyperctl vnc web-1 --listen 127.0.0.1:5901 &
  vncviewer 127.0.0.1:5901`,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			ln, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
			if err != nil {
				return fault.As(fault.InvalidArgument, err, "--listen")
			}
			stop := context.AfterFunc(ctx, func() { _ = ln.Close() }) // Accept says that it ended
			defer stop()
			if _, err := fmt.Fprintln(c.OutOrStdout(), ln.Addr()); err != nil {
				return err
			}
			return offer(ctx, c, cc, ln, args[0], once)
		}),
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`address` to listen on; whoever reaches it sees the display")
	c.Flags().BoolVar(&once, "once", false, "end with the first viewer")
	return c
}

// offer connects viewers to the display, several at once.
func offer(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, ln net.Listener, vm string, once bool) error {
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if once {
			return errors.Join(view(ctx, cc, conn, vm), ln.Close())
		}
		go func() {
			if err := view(ctx, cc, conn, vm); err != nil && ctx.Err() == nil {
				fmt.Fprintf(c.ErrOrStderr(), "%s: %v\n", conn.RemoteAddr(), err)
			}
		}()
	}
}

// view is one viewer's connection.
func view(ctx context.Context, cc *grpc.ClientConn, conn net.Conn, vm string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close() //nolint:errcheck // the viewer has gone
	stream, err := hypervisorv1.NewConsoleServiceClient(cc).ConnectToVmConsole(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&hypervisorv1.ConnectToVmConsoleRequest{Vm: vm}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	go func() {
		defer cancel() // the viewer has gone
		sendData(conn, func(b []byte) error { return stream.Send(&hypervisorv1.ConnectToVmConsoleRequest{Data: b}) })
	}()
	err = each(stream, func(m *hypervisorv1.ConnectToVmConsoleResponse) error {
		_, err := conn.Write(m.GetData())
		if err != nil {
			cancel() // as above
		}
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (a *app) monitorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "monitor VM", Short: "Speak with a VM's QEMU monitor: a JSON command a line", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVMs,
		Example: `  echo '{"execute":"query-status"}' | hyperctl monitor web-1`,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			stream, err := hypervisorv1.NewConsoleServiceClient(cc).ConnectToVmManager(ctx)
			if err != nil {
				return err
			}
			if err := stream.Send(&hypervisorv1.ConnectToVmManagerRequest{Vm: args[0]}); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			go func() {
				sendData(c.InOrStdin(), func(b []byte) error { return stream.Send(&hypervisorv1.ConnectToVmManagerRequest{Data: b}) })
				_ = stream.CloseSend() // the receiving side goes on
			}()
			return writeData(c.OutOrStdout(), stream)
		}),
	}
}
