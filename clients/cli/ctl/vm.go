package ctl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

func (a *app) vmCommand() *cobra.Command {
	c := &cobra.Command{Use: "vm", Short: "Run VMs", Aliases: []string{"vms"}}
	c.AddCommand(a.vmList(), a.vmGet(), a.vmCreate(), a.vmResize(), a.vmTag(), a.vmOwners(), a.vmMigrate(), a.vmCopy(), a.snapshotCommand(), a.volumeCommand(),
		a.userDataCommand(),
		a.vmAction("start", "Start a VM and wait until it runs", func(ctx context.Context, vms hypervisorv1.VmServiceClient, vm string) error {
			_, err := vms.StartVm(ctx, &hypervisorv1.StartVmRequest{Vm: vm})
			return err
		}),
		a.vmAction("stop", "Power a VM off: by its guest, or hard after 15 seconds", func(ctx context.Context, vms hypervisorv1.VmServiceClient, vm string) error {
			_, err := vms.StopVm(ctx, &hypervisorv1.StopVmRequest{Vm: vm})
			return err
		}),
		a.vmAction("reboot", "Ask a VM's guest to restart", func(ctx context.Context, vms hypervisorv1.VmServiceClient, vm string) error {
			_, err := vms.RebootVm(ctx, &hypervisorv1.RebootVmRequest{Vm: vm})
			return err
		}),
		a.vmAction("destroy", "Destroy a VM with its volumes", func(ctx context.Context, vms hypervisorv1.VmServiceClient, vm string) error {
			_, err := vms.DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: vm})
			return err
		}))
	return c
}

// vmAction is a command on one or more VMs.
func (a *app) vmAction(verb, short string, act func(context.Context, hypervisorv1.VmServiceClient, string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " VM...", Short: short, Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVMs,
		RunE: a.with(func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
			vms := hypervisorv1.NewVmServiceClient(cc)
			for _, vm := range args {
				if err := act(ctx, vms, vm); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func (a *app) vmList() *cobra.Command {
	req := new(hypervisorv1.GetVmInfosRequest)
	c := &cobra.Command{
		Use: "list", Short: "List VMs", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, _ []string) error {
			res, err := hypervisorv1.NewVmServiceClient(cc).GetVmInfos(ctx, req)
			if err != nil {
				return err
			}
			return output.Write(c.OutOrStdout(), a.format, res, func() output.Rows {
				r := output.Rows{Header: []string{"NAME", "ADDRESS", "STATE", "CPUS", "MEMORY", "DISK", "OWNER", "UUID"}}
				for _, v := range res.GetVmInfos() {
					r.Add(v.GetHostname(), v.GetAddress().GetIpAddress(), enumtext.Of(v.GetState()), cpus(v),
						units.Bytes(v.GetMemoryInMib()<<20), units.Bytes(volumeBytes(v)), primaryOwner(v), v.GetUuid())
				}
				return r
			})
		}),
	}
	c.Flags().StringSliceVar(&req.OwnerUsers, "owner", nil, "only VMs of this `user`, may be repeated")
	c.Flags().StringSliceVar(&req.OwnerGroups, "group", nil, "only VMs of this `group`, may be repeated")
	return c
}

func (a *app) vmGet() *cobra.Command {
	return &cobra.Command{
		Use: "get VM", Short: "Show one VM", Aliases: []string{"info"}, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVMs,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			res, err := hypervisorv1.NewVmServiceClient(cc).GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: args[0]})
			if err != nil {
				return err
			}
			return output.Write(c.OutOrStdout(), a.format, res.GetVmInfo(), func() output.Rows { return vmRows(res.GetVmInfo()) })
		}),
	}
}

func vmRows(v *hypervisorv1.VmInfo) output.Rows {
	var r output.Rows
	r.Add("Name", v.GetHostname())
	r.Add("UUID", v.GetUuid())
	r.Add("State", enumtext.Of(v.GetState())+" since "+v.GetChangedStateOn().AsTime().Format("2006-01-02 15:04:05 MST"))
	if v.GetStateReason() != "" {
		r.Add("Reason", v.GetStateReason())
	}
	r.Add("Address", addressText(v.GetAddress())+" ("+v.GetAddress().GetMacAddress()+", subnet "+v.GetSubnetId()+")")
	for i, s := range v.GetSecondaryAddresses() {
		r.Add("", addressText(s)+" ("+s.GetMacAddress()+", subnet "+v.GetSecondarySubnetIds()[i]+")")
	}
	r.Add("CPUs", cpus(v))
	r.Add("Memory", units.Bytes(v.GetMemoryInMib()<<20))
	for i, d := range v.GetVolumes() {
		format := "raw"
		if d.GetFormat() == hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2 {
			format = "qcow2"
		}
		r.Add(fmt.Sprintf("Volume %d", i), units.Bytes(d.GetSize())+", "+format)
	}
	r.Add("Owners", strings.Join(append(slices.Clone(v.GetOwnerUsers()), v.GetOwnerGroups()...), ", "))
	for _, k := range slices.Sorted(maps.Keys(v.GetTags())) {
		r.Add("Tag "+k, v.GetTags()[k])
	}
	r.Add("Created", v.GetCreatedOn().AsTime().Format("2006-01-02 15:04:05 MST"))
	return r
}

// addressText is a card's IP addresses.
func addressText(a *hypervisorv1.Address) string {
	if a.GetIpv6Address() == "" {
		return a.GetIpAddress()
	}
	return a.GetIpAddress() + ", " + a.GetIpv6Address()
}

func cpus(v *hypervisorv1.VmInfo) string {
	n := v.GetVirtualCpus()
	if n == 0 {
		n = max(1, (v.GetMilliCpus()+999)/1000)
	}
	return fmt.Sprint(n)
}

func volumeBytes(v *hypervisorv1.VmInfo) (sum uint64) {
	for _, d := range v.GetVolumes() {
		sum += d.GetSize()
	}
	return sum
}

func primaryOwner(v *hypervisorv1.VmInfo) string {
	if len(v.GetOwnerUsers()) == 0 {
		return ""
	}
	return v.GetOwnerUsers()[0]
}

func (a *app) vmResize() *cobra.Command {
	var memory string
	req := new(hypervisorv1.ChangeVmSizeRequest)
	c := &cobra.Command{
		Use: "resize VM", Short: "Change a stopped VM's memory and processors", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVMs,
		RunE: a.with(func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
			req.Vm = args[0]
			var err error
			if req.MemoryInMib, err = mebibytes(memory); err != nil {
				return err
			}
			if req.GetMemoryInMib() == 0 && req.GetVirtualCpus() == 0 && req.GetMilliCpus() == 0 {
				return fault.New(fault.InvalidArgument, "give --memory, --cpus or --milli-cpus")
			}
			_, err = hypervisorv1.NewVmConfigurationServiceClient(cc).ChangeVmSize(ctx, req)
			return err
		}),
	}
	c.Flags().StringVar(&memory, "memory", "", "memory `size`, as 2G")
	c.Flags().Uint32Var(&req.VirtualCpus, "cpus", 0, "number of virtual processors")
	c.Flags().Uint32Var(&req.MilliCpus, "milli-cpus", 0, "processor time in thousandths of a processor")
	return c
}

// mebibytes reads a size that must be whole MiB; empty is 0.
func mebibytes(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := units.ParseBytes(text)
	if err != nil {
		return 0, err
	}
	if n == 0 || n%(1<<20) != 0 {
		return 0, fault.New(fault.InvalidArgument, "size %q: memory is counted in whole MiB, as 512M", text)
	}
	return n >> 20, nil
}

func (a *app) vmTag() *cobra.Command {
	return &cobra.Command{
		Use: "tag VM KEY=VALUE... KEY-...", Short: "Set (KEY=VALUE) and remove (KEY-) tags", Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeVMs,
		RunE: a.with(func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
			res, err := hypervisorv1.NewVmServiceClient(cc).GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: args[0]})
			if err != nil {
				return err
			}
			tags := maps.Clone(res.GetVmInfo().GetTags())
			if tags == nil {
				tags = make(map[string]string)
			}
			for _, change := range args[1:] {
				key, value, set := strings.Cut(change, "=")
				gone, remove := strings.CutSuffix(change, "-")
				switch {
				case set && key != "":
					tags[key] = value
				case !set && remove && gone != "":
					delete(tags, gone)
				default:
					return fault.New(fault.InvalidArgument, "tag %q: write KEY=VALUE or KEY-", change)
				}
			}
			_, err = hypervisorv1.NewVmConfigurationServiceClient(cc).ChangeVmTags(ctx, &hypervisorv1.ChangeVmTagsRequest{Vm: args[0], Tags: tags})
			return err
		}),
	}
}

func (a *app) vmOwners() *cobra.Command {
	return &cobra.Command{
		Use: "owners VM USER...", Short: "Replace the owners beside the primary one", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVMs,
		RunE: a.with(func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
			_, err := hypervisorv1.NewVmConfigurationServiceClient(cc).ChangeVmOwnerUsers(ctx,
				&hypervisorv1.ChangeVmOwnerUsersRequest{Vm: args[0], OwnerUsers: args[1:]})
			return err
		}),
	}
}

// completeVMs completes VM names and addresses.
func (a *app) completeVMs(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	cc, err := a.dial()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer cc.Close() //nolint:errcheck // completion has no way to say so
	res, err := hypervisorv1.NewVmServiceClient(cc).GetVmInfos(c.Context(), &hypervisorv1.GetVmInfosRequest{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, v := range res.GetVmInfos() {
		for _, n := range []string{v.GetHostname(), v.GetAddress().GetIpAddress()} {
			if n != "" && strings.HasPrefix(n, prefix) {
				names = append(names, n)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
