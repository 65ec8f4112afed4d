package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

// task is a command's work on one VM and what else was said.
type task func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error

func (a *app) onVM(use, short string, args int, do task) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(args), ValidArgsFunction: a.completeVMs, RunE: a.with(do)}
}

func (a *app) snapshotCommand() *cobra.Command {
	c := &cobra.Command{Use: "snapshot", Short: "Keep and restore states of a VM's volumes"}
	take, restore := new(hypervisorv1.SnapshotVmRequest), new(hypervisorv1.RestoreVmFromSnapshotRequest)
	create := a.onVM("create VM NAME", "Keep the present state under a name", 2, func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
		take.Vm, take.Name = args[0], args[1]
		_, err := hypervisorv1.NewSnapshotServiceClient(cc).SnapshotVm(ctx, take)
		return err
	})
	create.Flags().BoolVar(&take.ForceIfNotStopped, "live", false, "also if the VM runs: all volumes at one point in time")
	create.Flags().BoolVar(&take.RootOnly, "root-only", false, "only the root volume")
	back := a.onVM("restore VM NAME", "Go back to a state", 2, func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
		restore.Vm, restore.Name = args[0], args[1]
		_, err := hypervisorv1.NewSnapshotServiceClient(cc).RestoreVmFromSnapshot(ctx, restore)
		return err
	})
	back.Flags().BoolVar(&restore.ForceIfNotStopped, "force", false, "also if the VM runs: it is stopped and started again")
	back.Flags().BoolVar(&restore.Retain, "keep", false, "keep the snapshot")
	remove := a.onVM("remove VM NAME", "Forget a state", 2, func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
		_, err := hypervisorv1.NewSnapshotServiceClient(cc).DiscardVmSnapshot(ctx, &hypervisorv1.DiscardVmSnapshotRequest{Vm: args[0], Name: args[1]})
		return err
	})
	remove.Aliases = []string{"rm"}
	c.AddCommand(a.onVM("list VM", "List a VM's snapshots", 1, a.listSnapshots), create, back, remove)
	return c
}

func (a *app) listSnapshots(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
	res, err := hypervisorv1.NewVmServiceClient(cc).GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: args[0]})
	if err != nil {
		return err
	}
	return output.Write(c.OutOrStdout(), a.format, res, func() output.Rows {
		r := output.Rows{Header: []string{"NAME", "VOLUME", "SIZE"}}
		for i, v := range res.GetVmInfo().GetVolumes() {
			for name, size := range v.GetSnapshots() {
				r.Add(name, strconv.Itoa(i), units.Bytes(size))
			}
		}
		slices.SortFunc(r.Cells, slices.Compare[[]string])
		return r
	})
}

func (a *app) volumeCommand() *cobra.Command {
	c := &cobra.Command{Use: "volume", Short: "Add, remove, grow and move a VM's volumes, also while it runs"}
	volumes := hypervisorv1.NewVolumeServiceClient
	c.AddCommand(
		a.onVM("add VM SIZE", "Add an empty volume", 2, func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
			size, err := units.ParseBytes(args[1])
			if err != nil {
				return err
			}
			_, err = volumes(cc).AddVmVolumes(ctx, &hypervisorv1.AddVmVolumesRequest{Vm: args[0], VolumeSizes: []uint64{size}})
			return err
		}),
		a.onVM("remove VM INDEX", "Delete a volume and what is on it", 2, func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
			index, err := number(args[1])
			if err != nil {
				return err
			}
			_, err = volumes(cc).DeleteVmVolume(ctx, &hypervisorv1.DeleteVmVolumeRequest{Vm: args[0], VolumeIndex: index})
			return err
		}),
		a.onVM("resize VM INDEX SIZE", "Change a volume's size; only a stopped VM's can shrink", 3, func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
			index, err := number(args[1])
			if err != nil {
				return err
			}
			size, err := units.ParseBytes(args[2])
			if err != nil {
				return err
			}
			_, err = volumes(cc).ChangeVmVolumeSize(ctx, &hypervisorv1.ChangeVmVolumeSizeRequest{Vm: args[0], VolumeIndex: index, VolumeSize: size})
			return err
		}),
		a.onVM("move VM INDEX STORAGE", "Move a volume to another storage device, see hyperctl host storage", 3, func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
			index, err := number(args[1])
			if err != nil {
				return err
			}
			storage, err := number(args[2])
			if err != nil {
				return err
			}
			_, err = volumes(cc).ChangeVmVolumeStorageIndex(ctx, &hypervisorv1.ChangeVmVolumeStorageIndexRequest{Vm: args[0], VolumeIndex: index, StorageIndex: storage})
			return err
		}))
	return c
}

func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fault.New(fault.InvalidArgument, "%q is not a number from 0", text)
	}
	return uint32(n), nil
}

func (a *app) userDataCommand() *cobra.Command {
	c := &cobra.Command{Use: "user-data", Short: "Read and replace a VM's user data"}
	c.AddCommand(
		a.onVM("get VM", "Write the user data to the output", 1, getUserData),
		a.onVM("set VM FILE", "Replace the user data; the old one is kept. FILE - is the input", 2, setUserData),
		a.onVM("restore VM", "Put the kept user data back", 1, func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
			_, err := hypervisorv1.NewUserDataServiceClient(cc).RestoreVmUserData(ctx, &hypervisorv1.RestoreVmUserDataRequest{Vm: args[0]})
			return err
		}))
	return c
}

func getUserData(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
	stream, err := hypervisorv1.NewUserDataServiceClient(cc).GetVmUserData(ctx, &hypervisorv1.GetVmUserDataRequest{Vm: args[0]})
	if err != nil {
		return err
	}
	return writeData(c.OutOrStdout(), stream)
}

func setUserData(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
	var content []byte
	var err error
	if args[1] == "-" {
		content, err = io.ReadAll(c.InOrStdin())
	} else {
		content, err = os.ReadFile(args[1])
	}
	if err != nil {
		return fault.Wrap(err, "user data")
	}
	stream, err := hypervisorv1.NewUserDataServiceClient(cc).ReplaceVmUserData(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&hypervisorv1.ReplaceVmUserDataRequest{Vm: args[0], Size: uint64(len(content))})
	for piece := range slices.Chunk(content, 256<<10) {
		if err != nil {
			break
		}
		err = stream.Send(&hypervisorv1.ReplaceVmUserDataRequest{Data: piece})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if _, err = stream.CloseAndRecv(); err != nil {
		return err
	}
	fmt.Fprintln(c.ErrOrStderr(), "a running guest sees it at the metadata service at once, and by its seed disk at the next start")
	return nil
}
