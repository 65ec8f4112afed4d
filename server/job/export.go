package job

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hyperplane-project/hyperplane/converters"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/ovf"
	"github.com/hyperplane-project/hyperplane/server/job/transfer"
)

// diskAttempts is how often a job begins a disk before it fails.
const diskAttempts = 3

const passwordSecret = "password"

// Machines makes VMs on this host.
type Machines interface {
	// Import creates the VM with the given UUID from finished disk files, or returns it if an earlier call did.
	Import(ctx context.Context, uuid string, spec *hypervisorv1.CreateVmSpec, files []string, caller principal.Caller) (*hypervisorv1.VmInfo, error)
}

// Exports does the work of export jobs.
type Exports struct {
	Sources  *Sources
	Machines Machines
	Formats  converters.Formats
	// StageDir is where disks for VMs on this host are made; it lies on the file system of the VMs' volumes.
	StageDir string
	// DefaultFormat is used where a job names none.
	DefaultFormat exportv1.DiskFormat
	Now           func() time.Time
}

// prepare checks an export and takes its password out.
func (e *Exports) prepare(spec *exportv1.ExportSpec) (map[string]string, error) {
	if spec.GetVm() == "" {
		return nil, fault.New(fault.InvalidArgument, "spec.export.vm: is empty; give the VM's path, name or key at the source")
	}
	if spec.GetPowerOff() {
		return nil, fault.New(fault.Unimplemented, "spec.export.power_off: is not available yet; power the VM off at the source")
	}
	source, password, err := e.Sources.resolve(spec.GetSource())
	if err != nil {
		return nil, err
	}
	spec.Source = source
	if spec.GetFormat() == exportv1.DiskFormat_DISK_FORMAT_UNSPECIFIED {
		spec.Format = e.DefaultFormat
	}
	switch d := spec.GetDestination().(type) {
	case *exportv1.ExportSpec_Directory:
		err = prepareDirectory(d.Directory)
	case *exportv1.ExportSpec_Libvirt:
		err = e.prepareLibvirt(spec)
	default:
		err = fault.New(fault.InvalidArgument, "spec.export: give a destination: directory or libvirt")
	}
	return map[string]string{passwordSecret: password}, err
}

func prepareDirectory(d *exportv1.DirectoryDestination) error {
	if !filepath.IsAbs(d.GetPath()) {
		return fault.New(fault.InvalidArgument, "spec.export.directory.path: %q is not an absolute path", d.GetPath())
	}
	d.Path = filepath.Clean(d.GetPath())
	if d.GetManifestHash() == "" {
		d.ManifestHash = "sha256"
	}
	if !slices.Contains([]string{"sha1", "sha256", "sha512"}, d.GetManifestHash()) {
		return fault.New(fault.InvalidArgument, "spec.export.directory.manifest_hash: %q is not sha1, sha256 or sha512", d.GetManifestHash())
	}
	return nil
}

func (e *Exports) prepareLibvirt(spec *exportv1.ExportSpec) error {
	if e.Machines == nil {
		return fault.New(fault.Unimplemented, "spec.export.libvirt: this server runs no VMs")
	}
	switch spec.GetFormat() {
	case exportv1.DiskFormat_DISK_FORMAT_QCOW2, exportv1.DiskFormat_DISK_FORMAT_RAW:
		return nil
	default:
		return fault.New(fault.InvalidArgument, "spec.export.format: a VM on this host runs from qcow2 or raw, not %s", enumtext.Of(spec.GetFormat()))
	}
}

// run does the work.
func (e *Exports) run(ctx context.Context, t *Task, spec *exportv1.ExportSpec) (*exportv1.JobResult, error) {
	t.Log(slog.LevelInfo, "connecting to %s", describeSource(spec.GetSource(), e.Sources.Default))
	src, err := e.Sources.open(ctx, spec.GetSource(), t.Secrets[passwordSecret], int(spec.GetParallelDisks()))
	job := &jobRun{exports: e, task: t, spec: spec}
	if err != nil {
		if ctx.Err() == nil || !job.hooks().Keep(ctx) {
			err = errors.Join(err, transfer.Abandon(context.WithoutCancel(ctx), job.plan(), job.hooks()))
		}
		return nil, err
	}
	defer func() {
		if err := src.Close(context.WithoutCancel(ctx)); err != nil {
			t.Log(slog.LevelWarn, "logging out: %v", err)
		}
	}()
	result, err := transfer.Run(ctx, src, job.plan(), job.hooks())
	if err != nil {
		return nil, err
	}
	return job.result(result), nil
}

// jobRun is one run of an export job.
type jobRun struct {
	exports *Exports
	task    *Task
	spec    *exportv1.ExportSpec
	vm      *hypervisorv1.VmInfo // what was made here, if the destination is this host
}

func (j *jobRun) plan() transfer.Plan {
	p := transfer.Plan{
		VM: j.spec.GetVm(), Formats: j.exports.Formats, Format: enumtext.Of(j.spec.GetFormat()), Compress: j.spec.GetCompress(), Quiesce: j.spec.GetQuiesce(),
		Parallel: int(j.spec.GetParallelDisks()), ID: j.task.Job.GetId(), Attempts: diskAttempts,
	}
	if p.Parallel == 0 {
		p.Parallel = max(1, j.exports.Sources.Parallel)
	}
	if d := j.spec.GetDirectory(); d != nil {
		p.ManifestHash = d.GetManifestHash()
		p.Folder = func(vm driver.VM) (string, error) { return filepath.Join(d.GetPath(), ovf.SafeName(vm.Name)), nil }
		return p
	}
	p.Folder = func(driver.VM) (string, error) { return filepath.Join(j.exports.StageDir, j.task.Job.GetId()), nil }
	return p
}

func (j *jobRun) hooks() transfer.Hooks {
	h := transfer.Hooks{
		Log:      j.task.Log,
		Progress: func(p transfer.Progress) { j.task.Progress(progressMessage(p)) },
		Load:     func(ctx context.Context, s *transfer.State) (bool, error) { return j.task.LoadJournal(ctx, s) },
		Save:     func(ctx context.Context, s transfer.State) error { return j.task.SaveJournal(ctx, s) },
		Keep:     func(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrShutdown) },
		Now:      j.exports.Now,
	}
	if j.spec.GetLibvirt() != nil {
		h.Publish = j.makeVM
	}
	return h
}

// makeVM creates the VM here.
func (j *jobRun) makeVM(ctx context.Context, r *transfer.Result) error {
	j.task.Log(slog.LevelInfo, "creating the VM on this host")
	spec := vmSpec(j.spec, r)
	var files []string
	for _, f := range r.Disks() {
		files = append(files, r.Path(f))
	}
	owner := principal.Caller{Principal: principal.Principal{Name: j.task.Job.GetOwner()}, Power: true}
	vm, err := j.exports.Machines.Import(ctx, j.task.Job.GetId(), spec, files, owner)
	if err != nil {
		return err
	}
	j.vm = vm
	j.task.Log(slog.LevelInfo, "VM %s is %s at %s", vm.GetHostname(), enumtext.Of(vm.GetState()), vm.GetAddress().GetIpAddress())
	return nil
}

func (j *jobRun) result(r *transfer.Result) *exportv1.JobResult {
	res := &exportv1.JobResult{
		VmName: r.VM.Name, OvfPath: r.OVF, ExportMethod: r.Method,
		VmUuid: j.vm.GetUuid(), VmIpAddress: j.vm.GetAddress().GetIpAddress(),
	}
	if j.vm == nil {
		res.OutputDirectory = r.Folder
	}
	for _, f := range r.Files {
		out := &exportv1.OutputFile{
			Path: r.Path(f), Size: uint64(f.Size), Sha256: f.SHA256, ContentSha256: f.ContentSHA256, Format: f.Format, VerifiedDigests: f.Verified,
		}
		if j.vm != nil {
			out.Path = "" // the file is now a volume of the VM
		}
		res.TotalBytes += out.GetSize()
		res.Files = append(res.Files, out)
	}
	return res
}

func progressMessage(p transfer.Progress) *exportv1.JobProgress {
	m := &exportv1.JobProgress{
		Phase: p.Phase, BytesTotal: uint64(p.Total), BytesDone: uint64(p.Done), BytesRead: uint64(p.Read), BytesWritten: uint64(p.Written),
		RateBytesPerSecond: uint64(p.Rate), CurrentFile: p.Current,
	}
	if p.Remaining >= 0 {
		m.EstimatedRemaining = durationpb.New(p.Remaining)
	}
	for _, d := range p.Disks {
		m.Disks = append(m.Disks, &exportv1.DiskProgress{
			Id: d.ID, File: d.File, BytesTotal: uint64(d.Total), BytesDone: uint64(d.Done), Complete: d.Complete,
		})
	}
	return m
}

// vmSpec is the request to create here what was exported there.
func vmSpec(spec *exportv1.ExportSpec, r *transfer.Result) *hypervisorv1.CreateVmSpec {
	dest, vm := spec.GetLibvirt(), r.VM
	info := &hypervisorv1.VmInfo{
		Hostname: dest.GetHostname(), OwnerUsers: dest.GetOwnerUsers(), Tags: dest.GetTags(), MemoryInMib: vm.MemoryBytes >> 20,
		VirtualCpus: vm.CPUs, MilliCpus: vm.CPUs * 1000, SubnetId: dest.GetSubnetId(),
	}
	if info.GetHostname() == "" {
		info.Hostname = vm.Name
	}
	if vm.Firmware == driver.FirmwareUEFI {
		info.FirmwareType = hypervisorv1.FirmwareType_FIRMWARE_TYPE_UEFI
	}
	format := hypervisorv1.VolumeFormat_VOLUME_FORMAT_UNSPECIFIED
	if spec.GetFormat() == exportv1.DiskFormat_DISK_FORMAT_QCOW2 {
		format = hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2
	}
	for range r.Disks() {
		info.Volumes = append(info.Volumes, &hypervisorv1.Volume{Format: format})
	}
	for i, nic := range vm.NICs {
		subnet := dest.GetSubnetId()
		if mapped, ok := dest.GetNetworkMap()[nic.Network]; ok {
			subnet = mapped
		}
		a := &hypervisorv1.Address{MacAddress: nic.MAC}
		if i == 0 {
			info.SubnetId, info.Address = subnet, a
		} else {
			info.SecondarySubnetIds = append(info.SecondarySubnetIds, subnet)
			info.SecondaryAddresses = append(info.SecondaryAddresses, a)
		}
	}
	return &hypervisorv1.CreateVmSpec{VmInfo: info, DoNotStart: !dest.GetStart()}
}
