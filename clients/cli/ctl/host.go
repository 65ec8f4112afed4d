package ctl

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

func (a *app) hostCommand() *cobra.Command {
	c := &cobra.Command{Use: "host", Short: "Look at the host and what happens on it, and take it out of service"}
	c.AddCommand(a.hostCapacity(), a.hostStorage(), a.hostWatchDHCP(), a.hostTraceMetadata(),
		a.hostSwitch("disable", "Create and start no VMs on the host any more", true), a.hostSwitch("enable", "Create and start VMs on the host again", false))
	return c
}

func (a *app) hostCapacity() *cobra.Command {
	return &cobra.Command{
		Use: "capacity", Short: "Show processors, memory and space", Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, _ []string) error {
			res, err := hypervisorv1.NewHostServiceClient(cc).GetCapacity(ctx, &hypervisorv1.GetCapacityRequest{})
			if err != nil {
				return err
			}
			return output.Write(c.OutOrStdout(), a.format, res, func() output.Rows {
				var r output.Rows
				r.Add("Processors", fmt.Sprint(res.GetNumCpus()))
				r.Add("Memory", units.Bytes(res.GetMemoryInMib()<<20)+", "+units.Bytes(res.GetAvailableMemoryInMib()<<20)+" available")
				r.Add("Space for volumes", units.Bytes(res.GetTotalVolumeBytes()))
				return r
			})
		}),
	}
}

func (a *app) hostStorage() *cobra.Command {
	return &cobra.Command{
		Use: "storage", Short: "List the directories of the storage devices, by their indices", Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, _ []string) error {
			res, err := hypervisorv1.NewHostServiceClient(cc).ListVolumeDirectories(ctx, &hypervisorv1.ListVolumeDirectoriesRequest{})
			if err != nil {
				return err
			}
			return output.Write(c.OutOrStdout(), a.format, res, func() output.Rows {
				r := output.Rows{Header: []string{"INDEX", "DIRECTORY"}}
				for i, dir := range res.GetDirectories() {
					r.Add(fmt.Sprint(i), dir)
				}
				return r
			})
		}),
	}
}

func (a *app) hostSwitch(verb, short string, disable bool) *cobra.Command {
	return &cobra.Command{
		Use: verb, Short: short, Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, _ []string) error {
			_, err := hypervisorv1.NewHostServiceClient(cc).SetDisabledState(ctx, &hypervisorv1.SetDisabledStateRequest{Disable: disable})
			return err
		}),
	}
}

func (a *app) hostWatchDHCP() *cobra.Command {
	req := new(hypervisorv1.WatchDhcpRequest)
	c := &cobra.Command{
		Use: "watch-dhcp", Short: "Show DHCP messages as they pass, in hexadecimal", Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, _ []string) error {
			stream, err := hypervisorv1.NewMonitoringServiceClient(cc).WatchDhcp(ctx, req)
			if err != nil {
				return err
			}
			return each(stream, func(m *hypervisorv1.WatchDhcpResponse) error {
				_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s\n", m.GetInterface(), hex.EncodeToString(m.GetPacket()))
				return err
			})
		}),
	}
	c.Flags().StringVar(&req.Interface, "interface", "", "only this `bridge`")
	c.Flags().Uint64Var(&req.MaxPackets, "count", 0, "end after this many")
	return c
}

func (a *app) hostTraceMetadata() *cobra.Command {
	return a.onVM("trace-metadata VM", "Show which metadata a guest asks for", 1, func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
		stream, err := hypervisorv1.NewMonitoringServiceClient(cc).TraceVmMetadata(ctx, &hypervisorv1.TraceVmMetadataRequest{Vm: args[0]})
		if err != nil {
			return err
		}
		return each(stream, func(m *hypervisorv1.TraceVmMetadataResponse) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), m.GetLine())
			return err
		})
	})
}
