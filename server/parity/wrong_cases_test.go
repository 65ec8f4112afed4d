package parity_test

import (
	"context"
	"maps"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// nobody is the name of no VM.
const nobody = "10.99.99.99"

// elsewhere is the name of a VM on another host.
const elsewhere = "10.0.0.1"

// fixed makes a case of a request that needs nothing.
func fixed(req proto.Message, code codes.Code, says string) wrong {
	return wrong{func(context.Context, *world) proto.Message { return proto.Clone(req) }, code, says}
}

// to makes a case of a request to a VM that is stopped or runs.
func to(running bool, req proto.Message, code codes.Code, says string) wrong {
	return wrong{func(ctx context.Context, w *world) proto.Message { return naming(req, w.vm(ctx, running)) }, code, says}
}

// toNobody makes a case of a request to a VM that is not there.
func toNobody(req proto.Message) wrong {
	return fixed(naming(req, nobody), codes.NotFound, nobody)
}

// inState makes a case of a request for which the VM is in the wrong state.
func inState(running bool, req proto.Message) wrong {
	says := "stopped"
	if running {
		says = "it is running"
	}
	return to(running, req, codes.FailedPrecondition, says)
}

func wrongs() map[string]wrong {
	all := wrongsOfVMs()
	for _, more := range []map[string]wrong{
		wrongsOfConfiguration(), wrongsOfTransfers(), wrongsOfDisks(), wrongsOfTrust(), wrongsOfConsoles(), wrongsOfHost(), wrongsOfVirtualisation(), wrongsOfAppliances(),
	} {
		maps.Copy(all, more)
	}
	return all
}

func wrongsOfVMs() map[string]wrong {
	protected := func(req proto.Message) wrong {
		return wrong{func(ctx context.Context, w *world) proto.Message {
			vm := w.vm(ctx, true)
			_, err := hypervisorv1.NewVmConfigurationServiceClient(w.cc).ChangeVmDestroyProtection(ctx,
				&hypervisorv1.ChangeVmDestroyProtectionRequest{Vm: vm, DestroyProtection: true})
			if err != nil {
				w.t.Fatal(err)
			}
			return naming(req, vm)
		}, codes.FailedPrecondition, "protected"}
	}
	none := &hypervisorv1.CreateVmSpec{VmInfo: &hypervisorv1.VmInfo{MilliCpus: 1000}}
	return map[string]wrong{
		"AcknowledgeVm": toNobody(&hypervisorv1.AcknowledgeVmRequest{}),
		"CreateVm": fixed(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: none}}, codes.InvalidArgument,
			"memory_in_mib"),
		"CreateVmAsync":      fixed(&hypervisorv1.CreateVmAsyncRequest{Spec: none}, codes.InvalidArgument, "memory_in_mib"),
		"DestroyVm":          protected(&hypervisorv1.DestroyVmRequest{}),
		"DestroyVmAsync":     protected(&hypervisorv1.DestroyVmAsyncRequest{}),
		"GetVmCreateRequest": toNobody(&hypervisorv1.GetVmCreateRequestRequest{}),
		"GetVmInfo":          toNobody(&hypervisorv1.GetVmInfoRequest{}),
		"GetVmInfos":         fixed(&hypervisorv1.GetVmInfosRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
		"ListVMs":            fixed(&hypervisorv1.ListVMsRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
		"RebootVm":           inState(false, &hypervisorv1.RebootVmRequest{}),
		"StartVm":            inState(true, &hypervisorv1.StartVmRequest{}),
		"StartVmAsync":       inState(true, &hypervisorv1.StartVmAsyncRequest{}),
		"StopVm":             inState(false, &hypervisorv1.StopVmRequest{}),
	}
}

func wrongsOfConfiguration() map[string]wrong {
	return map[string]wrong{
		"BecomePrimaryVmOwner":      to(false, &hypervisorv1.BecomePrimaryVmOwnerRequest{}, codes.FailedPrecondition, "already"),
		"ChangeVmConsoleType":       inState(true, &hypervisorv1.ChangeVmConsoleTypeRequest{ConsoleType: hypervisorv1.ConsoleType_CONSOLE_TYPE_DUMMY}),
		"ChangeVmCpuPriority":       to(false, &hypervisorv1.ChangeVmCpuPriorityRequest{CpuPriority: 99}, codes.InvalidArgument, "cpu_priority"),
		"ChangeVmDestroyProtection": toNobody(&hypervisorv1.ChangeVmDestroyProtectionRequest{}),
		"ChangeVmHostname":          to(false, &hypervisorv1.ChangeVmHostnameRequest{Hostname: "<a>"}, codes.InvalidArgument, "hostname"),
		"ChangeVmMachineType":       inState(true, &hypervisorv1.ChangeVmMachineTypeRequest{MachineType: hypervisorv1.MachineType_MACHINE_TYPE_PC}),
		"ChangeVmNumNetworkQueues":  inState(true, &hypervisorv1.ChangeVmNumNetworkQueuesRequest{NumQueuesPerInterface: []uint32{2}}),
		"ChangeVmOwnerGroups":       to(false, &hypervisorv1.ChangeVmOwnerGroupsRequest{OwnerGroups: []string{""}}, codes.InvalidArgument, "owner_groups"),
		"ChangeVmOwnerUsers":        to(false, &hypervisorv1.ChangeVmOwnerUsersRequest{OwnerUsers: []string{""}}, codes.InvalidArgument, "owner_users"),
		"ChangeVmSize":              to(true, &hypervisorv1.ChangeVmSizeRequest{MemoryInMib: 32}, codes.FailedPrecondition, "memory"),
		"ChangeVmSubnet":            to(false, &hypervisorv1.ChangeVmSubnetRequest{SubnetId: "nowhere"}, codes.NotFound, "nowhere"),
		"ChangeVmTags":              to(false, &hypervisorv1.ChangeVmTagsRequest{Tags: map[string]string{"": "x"}}, codes.InvalidArgument, "tags"),
	}
}

func wrongsOfTransfers() map[string]wrong {
	start := &hypervisorv1.MigrateVmStart{Vm: elsewhere, AccessToken: []byte("x"), SourceHypervisor: "no port"}
	return map[string]wrong{
		"CommitImportedVm": to(false, &hypervisorv1.CommitImportedVmRequest{}, codes.FailedPrecondition, "committed already"),
		"CopyVm": fixed(&hypervisorv1.CopyVmRequest{Vm: elsewhere, AccessToken: []byte("x"), SourceHypervisor: "no port"}, codes.InvalidArgument,
			"source_hypervisor"),
		"ExportLocalVm": to(false, &hypervisorv1.ExportLocalVmRequest{VerificationCookie: []byte("x")}, codes.PermissionDenied, "verification_cookie"),
		"ImportLocalVm": fixed(&hypervisorv1.ImportLocalVmRequest{VerificationCookie: []byte("x")}, codes.PermissionDenied, "verification_cookie"),
		"MigrateVm": fixed(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Start{Start: start}}, codes.InvalidArgument,
			"source_hypervisor"),
		"PrepareVmForMigration": inState(true, &hypervisorv1.PrepareVmForMigrationRequest{Enable: true}),
		"SendVm":                to(false, &hypervisorv1.SendVmRequest{}, codes.FailedPrecondition, "it is stopped"),
		"Tunnel":                to(true, &hypervisorv1.TunnelRequest{Session: []byte("x")}, codes.NotFound, "session"),
	}
}

func wrongsOfDisks() map[string]wrong {
	const ide = hypervisorv1.VolumeInterface_VOLUME_INTERFACE_IDE
	image := &hypervisorv1.ImageSource{ImageName: "no-such-image"}
	return map[string]wrong{
		"AddVmVolumes":                    to(false, &hypervisorv1.AddVmVolumesRequest{VolumeSizes: []uint64{0}}, codes.InvalidArgument, "volume_sizes"),
		"ChangeVmVolumeInterfaces":        inState(true, &hypervisorv1.ChangeVmVolumeInterfacesRequest{Interfaces: []hypervisorv1.VolumeInterface{ide}}),
		"ChangeVmVolumeSize":              to(false, &hypervisorv1.ChangeVmVolumeSizeRequest{VolumeIndex: 9, VolumeSize: 1 << 30}, codes.InvalidArgument, "volume_index"),
		"ChangeVmVolumeStorageIndex":      to(false, &hypervisorv1.ChangeVmVolumeStorageIndexRequest{StorageIndex: 9}, codes.InvalidArgument, "storage_index"),
		"DeleteVmVolume":                  to(false, &hypervisorv1.DeleteVmVolumeRequest{VolumeIndex: 0}, codes.InvalidArgument, "volume_index"),
		"GetVmVolume":                     to(false, &hypervisorv1.GetVmVolumeRequest{VolumeIndex: 9}, codes.InvalidArgument, "volume_index"),
		"GetVmVolumeStorageConfiguration": toNobody(&hypervisorv1.GetVmVolumeStorageConfigurationRequest{}),
		"ReorderVmVolumes":                inState(true, &hypervisorv1.ReorderVmVolumesRequest{VolumeIndices: []uint32{0}}),
		"DebugVmImage":                    to(false, &hypervisorv1.DebugVmImageRequest{Source: image}, codes.NotFound, "no-such-image"),
		"DiscardVmOldImage":               toNobody(&hypervisorv1.DiscardVmOldImageRequest{}),
		"PatchVmImage":                    to(false, &hypervisorv1.PatchVmImageRequest{ImageName: "no-such-image"}, codes.NotFound, "no-such-image"),
		"ReplaceVmImage":                  to(false, &hypervisorv1.ReplaceVmImageRequest{Source: image}, codes.NotFound, "no-such-image"),
		"RestoreVmImage":                  inState(true, &hypervisorv1.RestoreVmImageRequest{}),
		"ScanVmRoot":                      inState(true, &hypervisorv1.ScanVmRootRequest{}),
		"AddLocalImage": fixed(&hypervisorv1.AddLocalImageRequest{Spec: &hypervisorv1.LocalImageSpec{Name: "../x"}, Source: &hypervisorv1.AddLocalImageRequest_Url{Url: "file:///x"}},
			codes.InvalidArgument, "name"),
		"DeleteLocalImage": fixed(&hypervisorv1.DeleteLocalImageRequest{Name: "no-such-image"}, codes.NotFound, "no-such-image"),
		"GetLocalImage":    fixed(&hypervisorv1.GetLocalImageRequest{Name: "no-such-image"}, codes.NotFound, "no-such-image"),
		"ListLocalImages":  fixed(&hypervisorv1.ListLocalImagesRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
		"UploadLocalImage": fixed(&hypervisorv1.UploadLocalImageRequest{Part: &hypervisorv1.UploadLocalImageRequest_Data{Data: []byte("x")}}, codes.InvalidArgument, "spec"),
		"VerifyLocalImage": fixed(&hypervisorv1.VerifyLocalImageRequest{Name: "no-such-image"}, codes.NotFound, "no-such-image"),
		"SnapshotVm":       inState(true, &hypervisorv1.SnapshotVmRequest{Name: "a"}),
		"RestoreVmFromSnapshot": to(false, &hypervisorv1.RestoreVmFromSnapshotRequest{Name: "no-such-snapshot"}, codes.NotFound,
			"no-such-snapshot"),
		"DiscardVmSnapshot": to(false, &hypervisorv1.DiscardVmSnapshotRequest{Name: "no-such-snapshot"}, codes.NotFound, "no-such-snapshot"),
	}
}

func wrongsOfTrust() map[string]wrong {
	return map[string]wrong{
		"DiscardVmOldUserData": toNobody(&hypervisorv1.DiscardVmOldUserDataRequest{}),
		"GetVmUserData":        toNobody(&hypervisorv1.GetVmUserDataRequest{}),
		"ReplaceVmUserData":    to(false, &hypervisorv1.ReplaceVmUserDataRequest{Size: 1 << 40}, codes.InvalidArgument, "size"),
		"RestoreVmUserData":    to(false, &hypervisorv1.RestoreVmUserDataRequest{}, codes.NotFound, "none to restore"),
		"DiscardVmAccessToken": toNobody(&hypervisorv1.DiscardVmAccessTokenRequest{}),
		"GetVmAccessToken":     to(false, &hypervisorv1.GetVmAccessTokenRequest{Lifetime: durationpb.New(time.Second)}, codes.InvalidArgument, "lifetime"),
		"ReplaceVmCredentials": to(false, &hypervisorv1.ReplaceVmCredentialsRequest{IdentityKey: []byte("x")}, codes.InvalidArgument, "identity_certificate"),
		"ReplaceVmIdentity": to(false, &hypervisorv1.ReplaceVmIdentityRequest{IdentityRequestorCertificate: []byte("x")}, codes.InvalidArgument,
			"identity_requestor_certificate"),
	}
}

func wrongsOfConsoles() map[string]wrong {
	return map[string]wrong{
		"ConnectToVmConsole":        to(false, &hypervisorv1.ConnectToVmConsoleRequest{}, codes.FailedPrecondition, "not running"),
		"ConnectToVmManager":        to(false, &hypervisorv1.ConnectToVmManagerRequest{}, codes.FailedPrecondition, "not running"),
		"ConnectToVmSerialPort":     to(false, &hypervisorv1.ConnectToVmSerialPortRequest{}, codes.FailedPrecondition, "not running"),
		"GetVmLastPatchLog":         toNobody(&hypervisorv1.GetVmLastPatchLogRequest{}),
		"GetVmVirtualiserLogFile":   to(false, &hypervisorv1.GetVmVirtualiserLogFileRequest{Filename: "../x"}, codes.InvalidArgument, "filename"),
		"ListVmVirtualiserLogFiles": toNobody(&hypervisorv1.ListVmVirtualiserLogFilesRequest{}),
		"ProbeVmPort":               to(false, &hypervisorv1.ProbeVmPortRequest{PortNumber: 0}, codes.InvalidArgument, "port_number"),
		"TraceVmMetadata":           toNobody(&hypervisorv1.TraceVmMetadataRequest{}),
		"WatchDhcp":                 fixed(&hypervisorv1.WatchDhcpRequest{Interface: "no-such-bridge"}, codes.FailedPrecondition, "no-such-bridge"),
	}
}

func wrongsOfHost() map[string]wrong {
	outside := &hypervisorv1.Address{IpAddress: "192.0.2.1", MacAddress: "52:54:00:00:00:01"}
	return map[string]wrong{
		"ChangeAddressPool": fixed(&hypervisorv1.ChangeAddressPoolRequest{AddressesToAdd: []*hypervisorv1.Address{outside}}, codes.InvalidArgument, "192.0.2.1"),
		"ChangeOwners":      fixed(&hypervisorv1.ChangeOwnersRequest{OwnerUsers: []string{""}}, codes.InvalidArgument, "owner_users"),
		"HoldLock":          fixed(&hypervisorv1.HoldLockRequest{Timeout: durationpb.New(time.Hour)}, codes.InvalidArgument, "timeout"),
		"HoldVmLock":        to(false, &hypervisorv1.HoldVmLockRequest{Timeout: durationpb.New(time.Hour)}, codes.InvalidArgument, "timeout"),
		"ListSubnets":       fixed(&hypervisorv1.ListSubnetsRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
		"NetbootMachine":    fixed(&hypervisorv1.NetbootMachineRequest{Address: outside, Files: map[string][]byte{"notes.txt": {1}, "more.txt": {1}}}, codes.InvalidArgument, "files"),
		"PowerOff": {func(ctx context.Context, w *world) proto.Message {
			w.vm(ctx, true)
			return &hypervisorv1.PowerOffRequest{}
		}, codes.FailedPrecondition, "stop_vms"},
		"RegisterExternalLeases": fixed(&hypervisorv1.RegisterExternalLeasesRequest{Addresses: []*hypervisorv1.Address{{IpAddress: "ten"}}}, codes.InvalidArgument, "ten"),
		"UpdateSubnets": fixed(&hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{{
			Id: "overlapping", IpGateway: "10.88.0.1", IpMask: "255.255.255.0", Manage: true,
		}}}, codes.InvalidArgument, "overlapping"),
	}
}
