package ctl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	adminv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/admin/v1"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

func (a *app) sourceCommand() *cobra.Command {
	c := &cobra.Command{Use: "source", Short: "Look at the VMs of other platforms"}
	c.AddCommand(a.sourceList(), a.sourceGet())
	return c
}

func (a *app) sourceList() *cobra.Command {
	var f sourceFlags
	c := &cobra.Command{
		Use: "list [PATTERN]", Short: "List a source's VMs", Aliases: []string{"ls"}, Args: cobra.MaximumNArgs(1),
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			src, err := f.source(a.getenv)
			if err != nil {
				return err
			}
			res, err := exportv1.NewDiscoveryServiceClient(cc).ListSourceVms(ctx, &exportv1.ListSourceVmsRequest{Source: src, Pattern: strings.Join(args, "")})
			if err != nil {
				return err
			}
			return output.Write(c.OutOrStdout(), a.format, res, func() output.Rows {
				r := output.Rows{Header: []string{"PATH", "POWER", "CPUS", "MEMORY", "USED", "GUEST"}}
				for _, v := range res.GetVms() {
					r.Add(v.GetPath(), enumtext.Of(v.GetPowerState()), fmt.Sprint(v.GetNumCpus()), units.Bytes(v.GetMemoryBytes()), units.Bytes(v.GetUsedBytes()), v.GetGuestOs())
				}
				return r
			})
		}),
	}
	f.bind(c)
	return c
}

func (a *app) sourceGet() *cobra.Command {
	var f sourceFlags
	c := &cobra.Command{
		Use: "get VM", Short: "Show one VM of a source and what stands against its export", Args: cobra.ExactArgs(1),
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			src, err := f.source(a.getenv)
			if err != nil {
				return err
			}
			res, err := exportv1.NewDiscoveryServiceClient(cc).GetSourceVm(ctx, &exportv1.GetSourceVmRequest{Source: src, Vm: args[0]})
			if err != nil {
				return err
			}
			v := res.GetVm()
			return output.Write(c.OutOrStdout(), a.format, v, func() output.Rows {
				var r output.Rows
				r.Add("Path", v.GetPath())
				r.Add("Power", enumtext.Of(v.GetPowerState()))
				r.Add("CPUs", fmt.Sprint(v.GetNumCpus()))
				r.Add("Memory", units.Bytes(v.GetMemoryBytes()))
				r.Add("Firmware", v.GetFirmware())
				for _, d := range v.GetDisks() {
					r.Add(d.GetLabel(), units.Bytes(d.GetCapacityBytes())+", "+d.GetBus()+", "+d.GetFile())
				}
				for _, n := range v.GetNics() {
					r.Add(n.GetLabel(), n.GetMacAddress()+", "+n.GetNetwork())
				}
				for _, b := range v.GetBlockers() {
					r.Add("Blocker", b)
				}
				return r
			})
		}),
	}
	f.bind(c)
	return c
}

func (a *app) subnetCommand() *cobra.Command {
	c := &cobra.Command{Use: "subnet", Short: "Look at subnets"}
	c.AddCommand(&cobra.Command{
		Use: "list", Short: "List subnets", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, _ []string) error {
			res, err := hypervisorv1.NewNetworkServiceClient(cc).ListSubnets(ctx, &hypervisorv1.ListSubnetsRequest{Sort: true})
			if err != nil {
				return err
			}
			return output.Write(c.OutOrStdout(), a.format, res, func() output.Rows {
				r := output.Rows{Header: []string{"ID", "GATEWAY", "MASK", "IPV6 GATEWAY", "DOMAIN", "MANAGED"}}
				for _, n := range res.GetSubnets() {
					r.Add(n.GetId(), n.GetIpGateway(), n.GetIpMask(), n.GetIpv6Gateway(), n.GetDomainName(), fmt.Sprint(n.GetManage()))
				}
				return r
			})
		}),
	})
	return c
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how the server does", Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, _ []string) error {
			s, err := adminv1.NewSystemServiceClient(cc).GetStatus(ctx, &adminv1.GetStatusRequest{})
			if err != nil {
				return err
			}
			capacity, problem := hypervisorv1.NewHostServiceClient(cc).GetCapacity(ctx, &hypervisorv1.GetCapacityRequest{})
			return output.Write(c.OutOrStdout(), a.format, s, func() output.Rows {
				var r output.Rows
				r.Add("Version", s.GetVersion())
				r.Add("Host", s.GetHostname())
				r.Add("Uptime", s.GetUptime().AsDuration().Round(time.Second).String())
				if problem != nil { // the server lives; what it runs VMs with does not
					r.Add("Virtualiser", status.Convert(problem).Message())
				} else {
					r.Add("Virtualiser", s.GetHypervisorVersion())
					r.Add("Acceleration", fmt.Sprintf("%v (%s)", s.GetAccelerated(), s.GetAccelerationReason()))
					r.Add("Processors", fmt.Sprint(capacity.GetNumCpus()))
					r.Add("Memory", units.Bytes(capacity.GetAvailableMemoryInMib()<<20)+" of "+units.Bytes(capacity.GetMemoryInMib()<<20)+" free")
				}
				for _, state := range slices.Sorted(maps.Keys(s.GetVms())) {
					r.Add("VMs "+state, fmt.Sprint(s.GetVms()[state]))
				}
				for _, state := range slices.Sorted(maps.Keys(s.GetJobs())) {
					r.Add("Jobs "+state, fmt.Sprint(s.GetJobs()[state]))
				}
				return r
			})
		}),
	}
}
