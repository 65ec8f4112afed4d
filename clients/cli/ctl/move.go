package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	client "github.com/hyperplane-project/hyperplane/clients/go"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// tokenLifetime is how long the token that the destination shows to the source is good: moves of large VMs take hours.
const tokenLifetime = 24 * time.Hour

// origin is the host that a VM comes from.
type origin struct{ address, from string }

func (o *origin) bind(c *cobra.Command) {
	c.Flags().StringVar(&o.from, "from", "", "`address` of the host where the VM is, host:port, as this computer reaches it")
	c.Flags().StringVar(&o.address, "source-address", "", "the same as the destination reaches it, if that is another `address`")
	_ = c.MarkFlagRequired("from") // the flag was just made
}

// token gets a token for the VM at its host. done gives it back.
func (o *origin) token(ctx context.Context, a *app, vm string) (token []byte, done func(), err error) {
	cfg, err := a.config()
	if err != nil {
		return nil, nil, err
	}
	cfg.Server = o.from
	cc, err := client.Dial(cfg)
	if err != nil {
		return nil, nil, err
	}
	ids := hypervisorv1.NewIdentityServiceClient(cc)
	res, err := ids.GetVmAccessToken(ctx, &hypervisorv1.GetVmAccessTokenRequest{Vm: vm, Lifetime: durationpb.New(tokenLifetime)})
	if err != nil {
		return nil, nil, errors.Join(fault.Wrap(err, "%s", o.from), cc.Close())
	}
	return res.GetToken(), func() {
		// The VM may have gone from there, and the token with it.
		_, _ = ids.DiscardVmAccessToken(context.WithoutCancel(ctx), &hypervisorv1.DiscardVmAccessTokenRequest{Vm: vm, AccessToken: res.GetToken()})
		_ = cc.Close()
	}, nil
}

func (o *origin) source() string {
	if o.address != "" {
		return o.address
	}
	return o.from
}

func (a *app) vmMigrate() *cobra.Command {
	var o origin
	var mode string
	var ask bool
	start := new(hypervisorv1.MigrateVmStart)
	c := &cobra.Command{
		Use: "migrate VM", Short: "Move a VM from another host to this server's", Args: cobra.ExactArgs(1),
		Long: `Move a VM from another host to this server's: --server is the destination. The VM keeps its UUID, address and volumes. By default it moves live
where both hosts can, and otherwise is stopped for the last part of the copy.`,
		Example: `  hyperctl --server new-host:8080 vm migrate web-1 --from old-host:8080`,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			var ok bool
			if start.Mode, ok = migrationModes()[mode]; !ok {
				return fault.New(fault.InvalidArgument, "--mode: %q is not auto, live or copy", mode)
			}
			token, done, err := o.token(ctx, a, args[0])
			if err != nil {
				return err
			}
			defer done()
			start.Vm, start.AccessToken, start.SourceHypervisor = args[0], token, o.source()
			return migrate(ctx, c, cc, start, ask)
		}),
	}
	o.bind(c)
	c.Flags().StringVar(&mode, "mode", "auto", "auto, live or copy")
	c.Flags().BoolVar(&ask, "confirm", false, "ask before the move becomes final")
	return c
}

func migrationModes() map[string]hypervisorv1.MigrationMode {
	return map[string]hypervisorv1.MigrationMode{
		"auto": hypervisorv1.MigrationMode_MIGRATION_MODE_LIVE_OR_COPY, "live": hypervisorv1.MigrationMode_MIGRATION_MODE_LIVE,
		"copy": hypervisorv1.MigrationMode_MIGRATION_MODE_COPY,
	}
}

// migrate shows what is done and commits.
func migrate(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, start *hypervisorv1.MigrateVmStart, ask bool) error {
	stream, err := hypervisorv1.NewVmTransferServiceClient(cc).MigrateVm(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Start{Start: start}})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return toFinal(c, stream, func(m *hypervisorv1.MigrateVmResponse) error {
		if !m.GetRequestCommit() {
			return nil
		}
		commit := !ask || confirmed(c, "commit the move?")
		err := stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Commit{Commit: commit}})
		if errors.Is(err, io.EOF) {
			return nil // the answer says why
		}
		return err
	})
}

// confirmed asks a question that only yes answers.
func confirmed(c *cobra.Command, question string) bool {
	fmt.Fprintf(c.ErrOrStderr(), "%s [y/N] ", question)
	line, _ := bufio.NewReader(c.InOrStdin()).ReadString('\n') // no answer is no
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

func (a *app) vmCopy() *cobra.Command {
	var o origin
	var memory, name, subnet string
	c := &cobra.Command{
		Use: "copy VM", Short: "Copy a VM from another host to this server's, stopped, with a new address", Args: cobra.ExactArgs(1),
		Example: `  hyperctl --server new-host:8080 vm copy web-1 --from old-host:8080 --name web-1-copy`,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			info := &hypervisorv1.VmInfo{Hostname: name, SubnetId: subnet}
			var err error
			if info.MemoryInMib, err = mebibytes(memory); err != nil {
				return err
			}
			token, done, err := o.token(ctx, a, args[0])
			if err != nil {
				return err
			}
			defer done()
			stream, err := hypervisorv1.NewVmTransferServiceClient(cc).CopyVm(ctx, &hypervisorv1.CopyVmRequest{
				Vm: args[0], AccessToken: token, SourceHypervisor: o.source(), VmInfo: info,
			})
			if err != nil {
				return err
			}
			return toFinal(c, stream, func(m *hypervisorv1.CopyVmResponse) error {
				if !m.GetFinal() {
					return nil
				}
				_, err := fmt.Fprintln(c.OutOrStdout(), m.GetIpAddress())
				return err
			})
		}),
	}
	o.bind(c)
	c.Flags().StringVar(&name, "name", "", "host `name` of the copy (default: that of the VM)")
	c.Flags().StringVar(&memory, "memory", "", "memory `size` of the copy (default: that of the VM)")
	c.Flags().StringVar(&subnet, "subnet", "", "`subnet` of the copy (default: that of the VM)")
	return c
}
