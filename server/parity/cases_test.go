package parity_test

import (
	"context"
	"maps"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/admin/v1"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// unaryCase proves that a method does its work. It runs once per transport; vm is an address that request may have made.
type unaryCase struct {
	request func(ctx context.Context, w *world) proto.Message
	check   func(ctx context.Context, t *testing.T, w *world, req, res proto.Message)
}

// unary holds the cases of methods with one request and one reply, by the method's name.
func unary() map[string]unaryCase {
	cases := map[string]unaryCase{
		"GetVmInfo": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.GetVmInfoRequest{Vm: w.vm(ctx, false)}
			},
			func(_ context.Context, t *testing.T, _ *world, req, res proto.Message) {
				t.Helper()
				info := as(t, res, &hypervisorv1.GetVmInfoResponse{}).GetVmInfo()
				want := req.(*hypervisorv1.GetVmInfoRequest).GetVm()
				if info.GetAddress().GetIpAddress() != want || info.GetState() != hypervisorv1.State_STATE_STOPPED || info.GetMemoryInMib() != 64 ||
					info.GetTags()["test"] != "parity" || info.GetOwnerUsers()[0] != "admin" || len(info.GetVolumes()) != 1 || info.GetCreatedOn() == nil {
					t.Errorf("info: %v", info)
				}
			},
		},
		"GetVmInfos": {
			func(ctx context.Context, w *world) proto.Message {
				w.vm(ctx, false)
				return &hypervisorv1.GetVmInfosRequest{
					IgnoreStateMask: 1 << 1, VmTagsToMatch: map[string]*hypervisorv1.TagValues{"test": {Values: []string{"parity"}}},
				}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				infos := as(t, res, &hypervisorv1.GetVmInfosResponse{}).GetVmInfos()
				if len(infos) == 0 || slices.ContainsFunc(infos, func(i *hypervisorv1.VmInfo) bool { return i.GetState() == hypervisorv1.State_STATE_RUNNING }) {
					t.Errorf("infos: %v", infos)
				}
			},
		},
		"ListVMs": {
			func(ctx context.Context, w *world) proto.Message {
				w.vm(ctx, false)
				return &hypervisorv1.ListVMsRequest{Sort: true}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if got := as(t, res, &hypervisorv1.ListVMsResponse{}).GetIpAddresses(); len(got) == 0 {
					t.Error("no addresses")
				}
			},
		},
		"CreateVmAsync": {
			func(context.Context, *world) proto.Message {
				return &hypervisorv1.CreateVmAsyncRequest{Spec: spec(true)}
			},
			func(ctx context.Context, t *testing.T, w *world, _, res proto.Message) {
				t.Helper()
				info := as(t, res, &hypervisorv1.CreateVmAsyncResponse{}).GetVmInfo()
				if info.GetState() != hypervisorv1.State_STATE_STARTING {
					t.Errorf("state %v, want STARTING", info.GetState())
				}
				w.settled(ctx, info.GetAddress().GetIpAddress(), hypervisorv1.State_STATE_RUNNING)
			},
		},
		"StartVm":      onVM(false, &hypervisorv1.StartVmRequest{}, hypervisorv1.State_STATE_RUNNING),
		"StartVmAsync": onVM(false, &hypervisorv1.StartVmAsyncRequest{}, hypervisorv1.State_STATE_RUNNING),
		"StopVm":       onVM(true, &hypervisorv1.StopVmRequest{}, hypervisorv1.State_STATE_STOPPED),
		"RebootVm":     onVM(true, &hypervisorv1.RebootVmRequest{DhcpTimeout: durationpb.New(0)}, hypervisorv1.State_STATE_RUNNING),
		"DestroyVm": {
			func(ctx context.Context, w *world) proto.Message {
				req := &hypervisorv1.DestroyVmRequest{Vm: w.vm(ctx, true)}
				w.uuids.Store(req, w.info(ctx, req.GetVm()).GetUuid())
				return req
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				uuid, _ := w.uuids.Load(req)
				if _, err := w.vms().GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: uuid.(string)}); err == nil {
					t.Error("the VM is still there")
				}
			},
		},
		"DestroyVmAsync": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.DestroyVmAsyncRequest{Vm: w.vm(ctx, true)}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if got := as(t, res, &hypervisorv1.DestroyVmAsyncResponse{}).GetVmInfo().GetState(); got != hypervisorv1.State_STATE_DESTROYING {
					t.Errorf("state %v, want DESTROYING", got)
				}
			},
		},
		"ChangeVmTags": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.ChangeVmTagsRequest{Vm: w.vm(ctx, true), Tags: map[string]string{"a": "b"}}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				tags := w.info(ctx, req.(*hypervisorv1.ChangeVmTagsRequest).GetVm()).GetTags()
				if len(tags) != 1 || tags["a"] != "b" {
					t.Errorf("tags: %v", tags)
				}
			},
		},
		"ChangeVmOwnerUsers": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.ChangeVmOwnerUsersRequest{Vm: w.vm(ctx, false), OwnerUsers: []string{"bob", "carol"}}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				owners := w.info(ctx, req.(*hypervisorv1.ChangeVmOwnerUsersRequest).GetVm()).GetOwnerUsers()
				if !slices.Equal(owners, []string{"admin", "bob", "carol"}) {
					t.Errorf("owners: %v", owners)
				}
			},
		},
		"ChangeVmSize": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.ChangeVmSizeRequest{Vm: w.vm(ctx, false), MemoryInMib: 128, VirtualCpus: 2}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				info := w.info(ctx, req.(*hypervisorv1.ChangeVmSizeRequest).GetVm())
				if info.GetMemoryInMib() != 128 || info.GetVirtualCpus() != 2 || info.GetMilliCpus() != 250 {
					t.Errorf("size: %v", info)
				}
			},
		},
		"ListSubnets": {
			func(context.Context, *world) proto.Message { return &hypervisorv1.ListSubnetsRequest{Sort: true} },
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				n := as(t, res, &hypervisorv1.ListSubnetsResponse{}).GetSubnets()
				if len(n) != 1 || n[0].GetId() != "default" || n[0].GetIpGateway() != "10.88.0.1" || n[0].GetIpMask() != "255.255.255.0" {
					t.Errorf("subnets: %v", n)
				}
			},
		},
		"GetCapacity": {
			func(context.Context, *world) proto.Message { return &hypervisorv1.GetCapacityRequest{} },
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				c := as(t, res, &hypervisorv1.GetCapacityResponse{})
				if c.GetNumCpus() != 8 || c.GetMemoryInMib() != 64<<10 || c.GetAvailableMemoryInMib() > c.GetMemoryInMib() || c.GetTotalVolumeBytes() == 0 {
					t.Errorf("capacity: %v", c)
				}
			},
		},
		"ListVolumeDirectories": {
			func(context.Context, *world) proto.Message { return &hypervisorv1.ListVolumeDirectoriesRequest{} },
			func(_ context.Context, t *testing.T, w *world, _, res proto.Message) {
				t.Helper()
				d := as(t, res, &hypervisorv1.ListVolumeDirectoriesResponse{}).GetDirectories()
				if len(d) != 1 || d[0] != w.Config.StateDir+"/volumes" {
					t.Errorf("directories: %v", d)
				}
			},
		},
		"SubmitJob": {
			func(_ context.Context, w *world) proto.Message {
				return &exportv1.SubmitJobRequest{Name: "x", Spec: &exportv1.JobSpec{Work: &exportv1.JobSpec_Convert{Convert: w.convertSpec()}}}
			},
			func(ctx context.Context, t *testing.T, w *world, _, res proto.Message) {
				t.Helper()
				completed(ctx, t, w, as(t, res, &exportv1.SubmitJobResponse{}).GetJob())
			},
		},
		"ConvertImage": {
			func(_ context.Context, w *world) proto.Message {
				return &exportv1.ConvertImageRequest{Spec: w.convertSpec()}
			},
			func(ctx context.Context, t *testing.T, w *world, _, res proto.Message) {
				t.Helper()
				completed(ctx, t, w, as(t, res, &exportv1.ConvertImageResponse{}).GetJob())
			},
		},
		"InspectImage": {
			func(_ context.Context, w *world) proto.Message {
				source, _ := w.image()
				return &exportv1.InspectImageRequest{Path: source}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if i := as(t, res, &exportv1.InspectImageResponse{}); i.GetFormat() != "raw" || i.GetVirtualSize() != 1<<20 {
					t.Errorf("image: %v", i)
				}
			},
		},
		"GetJob": {
			func(ctx context.Context, w *world) proto.Message { return &exportv1.GetJobRequest{Id: w.job(ctx)} },
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if j := as(t, res, &exportv1.GetJobResponse{}).GetJob(); j.GetState() != exportv1.JobState_JOB_STATE_COMPLETED {
					t.Errorf("job: %v", j)
				}
			},
		},
		"ListJobs": {
			func(ctx context.Context, w *world) proto.Message {
				w.job(ctx)
				return &exportv1.ListJobsRequest{}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if len(as(t, res, &exportv1.ListJobsResponse{}).GetJobs()) == 0 {
					t.Error("no jobs")
				}
			},
		},
		"ListJobLogs": {
			func(ctx context.Context, w *world) proto.Message { return &exportv1.ListJobLogsRequest{Id: w.job(ctx)} },
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if len(as(t, res, &exportv1.ListJobLogsResponse{}).GetEntries()) < 3 {
					t.Errorf("logs: %v", res)
				}
			},
		},
		"CancelJob": {
			func(ctx context.Context, w *world) proto.Message {
				return &exportv1.CancelJobRequest{Id: w.endless(ctx)}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if j := as(t, res, &exportv1.CancelJobResponse{}).GetJob(); j.GetState() != exportv1.JobState_JOB_STATE_CANCELLED {
					t.Errorf("job: %v", j)
				}
			},
		},
		"ListSourceVms": {
			func(context.Context, *world) proto.Message {
				return &exportv1.ListSourceVmsRequest{Pattern: "source-*"}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if v := as(t, res, &exportv1.ListSourceVmsResponse{}).GetVms(); len(v) != 1 || v[0].GetPath() != "/DC0/vm/source-1" {
					t.Errorf("vms: %v", v)
				}
			},
		},
		"GetSourceVm": {
			func(context.Context, *world) proto.Message {
				return &exportv1.GetSourceVmRequest{Vm: "/DC0/vm/source-1"}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				v := as(t, res, &exportv1.GetSourceVmResponse{}).GetVm()
				if len(v.GetDisks()) != 1 || v.GetDisks()[0].GetCapacityBytes() != 4<<20 || v.GetPowerState() != exportv1.PowerState_POWER_STATE_OFF {
					t.Errorf("vm: %v", v)
				}
			},
		},
		"ListProviders": {
			func(context.Context, *world) proto.Message { return &exportv1.ListProvidersRequest{} },
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if p := as(t, res, &exportv1.ListProvidersResponse{}).GetProviders(); !slices.Equal(p, []string{"vsphere"}) {
					t.Errorf("providers: %v", p)
				}
			},
		},
		"GetStatus": {
			func(context.Context, *world) proto.Message { return &adminv1.GetStatusRequest{} },
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if s := as(t, res, &adminv1.GetStatusResponse{}); s.GetVersion() != "test" || s.GetUptime() == nil || s.GetHostname() != "fake" {
					t.Errorf("status: %v", s)
				}
			},
		},
		"GetCapabilities": {
			func(context.Context, *world) proto.Message { return &adminv1.GetCapabilitiesRequest{} },
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if c := as(t, res, &adminv1.GetCapabilitiesResponse{}); !slices.Contains(c.GetWriteFormats(), "qcow2") || len(c.GetProviders()) == 0 {
					t.Errorf("capabilities: %v", c)
				}
			},
		},
	}
	maps.Copy(cases, hostCases())
	maps.Copy(cases, networkCases())
	maps.Copy(cases, vmCases())
	maps.Copy(cases, transferCases())
	maps.Copy(cases, volumeCases())
	maps.Copy(cases, diskCases())
	maps.Copy(cases, trustCases())
	maps.Copy(cases, imageCases())
	maps.Copy(cases, domainCases())
	maps.Copy(cases, applianceCases())
	maps.Copy(cases, storageCases())
	return cases
}

// onVM is a case that takes a VM from off or running to a state. The request's vm field is filled in.
func onVM(running bool, template proto.Message, want hypervisorv1.State) unaryCase {
	vmOf := func(m proto.Message) string { return m.(interface{ GetVm() string }).GetVm() }
	return unaryCase{
		func(ctx context.Context, w *world) proto.Message { return naming(template, w.vm(ctx, running)) },
		func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
			t.Helper()
			w.settled(ctx, vmOf(req), want)
		},
	}
}

// completed waits for a job's success.
func completed(ctx context.Context, t *testing.T, w *world, j *exportv1.Job) {
	t.Helper()
	if j = w.finished(ctx, j.GetId()); j.GetState() != exportv1.JobState_JOB_STATE_COMPLETED {
		t.Errorf("job: %v", j)
	}
}
