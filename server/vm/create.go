package vm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/network"
	"github.com/hyperplane-project/hyperplane/server/store"
)

const (
	// requestPrefix is where the store keeps the requests that VMs were created by.
	requestPrefix = "vm-requests/"
	// creatingPrefix is where the store notes VMs whose creation has not ended, so that a daemon that was killed cleans up after itself.
	creatingPrefix = "vm-creations/"
	// progressEvery is how often progress is told at most.
	progressEvery = 200 * time.Millisecond
)

// CreateVm implements VmService.
func (s *Service) CreateVm(stream grpc.BidiStreamingServer[hypervisorv1.CreateVmRequest, hypervisorv1.CreateVmResponse]) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return fault.New(fault.InvalidArgument, "spec: is missing; send it in the first message")
	}
	if err != nil {
		return err
	}
	if first.GetSpec() == nil {
		return fault.New(fault.InvalidArgument, "spec: must be in the first message")
	}
	image := &imageReader{recv: stream.Recv}
	c := creation{
		Service: s, spec: first.GetSpec(), caller: principal.CallerFrom(stream.Context()), image: image,
		tell: throttled(s.Now, stream.Send),
	}
	info, err := c.run(stream.Context())
	if err != nil {
		return err
	}
	return stream.Send(&hypervisorv1.CreateVmResponse{Final: true, IpAddress: info.GetAddress().GetIpAddress(), VmInfo: info})
}

// CreateVmAsync implements VmService.
func (s *Service) CreateVmAsync(ctx context.Context, req *hypervisorv1.CreateVmAsyncRequest) (*hypervisorv1.CreateVmAsyncResponse, error) {
	if err := checkAsync(req.GetSpec()); err != nil {
		return nil, err
	}
	c := creation{Service: s, spec: req.GetSpec(), caller: principal.CallerFrom(ctx), tell: func(*hypervisorv1.CreateVmResponse) error { return nil }}
	record, unlock, err := c.reserve(ctx)
	if err != nil {
		return nil, err
	}
	info := record.GetVmInfo()
	s.background(ctx, "create", info.GetUuid(), func(ctx context.Context) error {
		defer unlock()
		if _, err := c.fill(ctx, record); err != nil {
			// The caller has gone with a VM in its hand: it must be able to find out what became of it.
			_, stateErr := s.setState(ctx, info.GetUuid(), hypervisorv1.State_STATE_FAILED_TO_START, err.Error())
			return errJoin(err, stateErr, s.created(ctx, info.GetUuid(), c.spec))
		}
		return nil
	})
	return &hypervisorv1.CreateVmAsyncResponse{VmInfo: info}, nil
}

// Import creates a VM with the given UUID from finished images that lie on this host, and takes the files over. It is how an export job
// brings a VM here: a job that was interrupted calls again, and gets the VM that the first call made. The spec's volumes must be described
// in vm_info.volumes.
func (s *Service) Import(
	ctx context.Context, uuid string, spec *hypervisorv1.CreateVmSpec, files []string, caller principal.Caller,
) (*hypervisorv1.VmInfo, error) {
	ctx = During(ctx, "import")
	// A first call that was killed half-way has left a VM that is none.
	if err := s.removeInterrupted(ctx, uuid); err != nil {
		return nil, err
	}
	if info, err := s.registry.Info(uuid); err == nil {
		return info, nil
	}
	spec.VmInfo.Hostname = fitHostname(spec.GetVmInfo().GetHostname())
	c := creation{
		Service: s, spec: spec, caller: caller, uuid: uuid, adopt: files,
		tell: func(*hypervisorv1.CreateVmResponse) error { return nil },
	}
	return c.run(ctx)
}

// creation is the making of one VM.
type creation struct {
	*Service
	spec   *hypervisorv1.CreateVmSpec
	caller principal.Caller
	image  *imageReader // the client's bytes; nil if there are none
	uuid   string       // the VM's UUID; empty = a random one
	adopt  []string     // files of finished volumes
	tell   func(*hypervisorv1.CreateVmResponse) error
}

// run makes the VM, or leaves nothing of it.
func (c *creation) run(ctx context.Context) (*hypervisorv1.VmInfo, error) {
	record, unlock, err := c.reserve(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	uuid := record.GetVmInfo().GetUuid()
	info, err := c.fill(ctx, record)
	if err != nil {
		cleanup := context.WithoutCancel(ctx)
		return nil, errJoin(fault.Wrap(err, "vm %s: create", name(record.GetVmInfo())), c.remove(cleanup, uuid), c.forget(cleanup, uuid))
	}
	return info, nil
}

// reserve checks the request, gives the VM its UUID and addresses, and makes it known as STARTING, locked.
func (c *creation) reserve(ctx context.Context) (*hypervisorv1.LocalVmInfo, func(), error) {
	if err := c.enabled(); err != nil {
		return nil, nil, err
	}
	if err := checkSpec(c.spec); err != nil {
		return nil, nil, err
	}
	if err := checkPriority(c.spec.GetVmInfo().GetCpuPriority(), c.caller); err != nil {
		return nil, nil, err
	}
	info := proto.CloneOf(c.spec.GetVmInfo())
	if info.Uuid = c.uuid; c.uuid == "" {
		info.Uuid = c.NewUUID()
	}
	info.CreatedOn = timestamppb.New(c.Now())
	c.enter(info, hypervisorv1.State_STATE_STARTING, "")
	if c.caller.Name != "" {
		info.OwnerUsers = append([]string{c.caller.Name}, slices.DeleteFunc(info.GetOwnerUsers(), func(u string) bool { return u == c.caller.Name })...)
	}
	var u undo.Stack
	u.Add(func(context.Context) error { c.Network.Release(info.GetUuid()); return nil })
	if err := c.allocate(info); err != nil {
		return nil, nil, errJoin(err, u.Run(ctx))
	}
	unlock, err := c.hold(ctx, info.GetUuid(), name(info))
	if err != nil {
		return nil, nil, errJoin(err, u.Run(ctx))
	}
	record := &hypervisorv1.LocalVmInfo{VmInfo: info}
	c.capacity.Lock()
	defer c.capacity.Unlock()
	err = c.note(ctx, info.GetUuid())
	if err == nil && !c.spec.GetDoNotStart() {
		err = c.checkMemory(ctx, info)
	}
	if err == nil {
		err = c.registry.Add(ctx, record)
	}
	if err != nil {
		unlock()
		return nil, nil, errJoin(err, u.Run(ctx), c.forget(context.WithoutCancel(ctx), info.GetUuid()))
	}
	return record, unlock, nil
}

func (c *creation) allocate(info *hypervisorv1.VmInfo) error {
	if len(info.GetSecondaryAddresses()) > len(info.GetSecondarySubnetIds()) {
		return fault.New(fault.InvalidArgument, "vm_info.secondary_addresses: %d addresses for %d secondary_subnet_ids",
			len(info.GetSecondaryAddresses()), len(info.GetSecondarySubnetIds()))
	}
	req := network.Request{UUID: info.GetUuid(), Hostname: info.GetHostname(), Caller: c.caller, SubnetID: info.GetSubnetId(), Want: info.GetAddress()}
	var err error
	if info.Address, info.SubnetId, err = c.Network.Allocate(req); err != nil {
		return err
	}
	wanted := info.GetSecondaryAddresses()
	info.SecondaryAddresses = nil
	for i, subnet := range info.GetSecondarySubnetIds() {
		req.SubnetID, req.Want = subnet, nil
		if i < len(wanted) {
			req.Want = wanted[i]
		}
		a, _, err := c.Network.Allocate(req)
		if err != nil {
			return err
		}
		info.SecondaryAddresses = append(info.SecondaryAddresses, a)
	}
	return nil
}

// fill makes the volumes and starts the VM. The caller holds its lock.
func (c *creation) fill(ctx context.Context, record *hypervisorv1.LocalVmInfo) (*hypervisorv1.VmInfo, error) {
	uuid := record.GetVmInfo().GetUuid()
	volumes, places, err := c.volumes(ctx, record.GetVmInfo())
	if err != nil {
		return nil, err
	}
	record, err = c.registry.Change(ctx, uuid, func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.Volumes, r.VolumeLocations = volumes, places
		return nil
	})
	if err != nil {
		return nil, err
	}
	if c.spec.GetDoNotStart() {
		_, err = c.setState(ctx, uuid, hypervisorv1.State_STATE_STOPPED, "")
	} else {
		if err := c.tell(&hypervisorv1.CreateVmResponse{ProgressMessage: "starting VM " + record.GetVmInfo().GetAddress().GetIpAddress()}); err != nil {
			return nil, err
		}
		err = c.detached(ctx, func(ctx context.Context) error { return c.start(ctx, uuid) })
	}
	if err != nil {
		return nil, err
	}
	request := c.spec
	if len(c.adopt) > 0 {
		request = nil // nobody can repeat it: the files are the VM's now
	}
	if err := c.created(context.WithoutCancel(ctx), uuid, request); err != nil {
		return nil, err
	}
	return c.registry.Info(uuid)
}

// volumes makes the root volume and the others.
func (c *creation) volumes(ctx context.Context, info *hypervisorv1.VmInfo) ([]*hypervisorv1.Volume, []*hypervisorv1.LocalVolume, error) {
	dir, err := c.Volumes.Directory(info.GetUuid())
	if err != nil {
		return nil, nil, err
	}
	wanted := info.GetVolumes()
	if len(wanted) == 0 {
		wanted = []*hypervisorv1.Volume{{}}
	}
	wanted = append(slices.Clone(wanted[:max(1, len(c.adopt))]), c.spec.GetSecondaryVolumes()...)
	var volumes []*hypervisorv1.Volume
	var places []*hypervisorv1.LocalVolume
	for i, w := range wanted {
		file := filepath.Join(dir, volumeFile(i))
		size, err := c.volume(ctx, i, w, file)
		if err != nil {
			return nil, nil, fault.Wrap(err, "volume %d", i)
		}
		volumes = append(volumes, &hypervisorv1.Volume{Format: w.GetFormat(), Interface: w.GetInterface(), Size: size, VirtualSize: size})
		places = append(places, &hypervisorv1.LocalVolume{DirectoryToCleanup: dir, Filename: file})
	}
	return volumes, places, nil
}

func volumeFile(i int) string {
	if i == 0 {
		return "root"
	}
	return "secondary-volume." + strconv.Itoa(i-1)
}

// volume makes one volume and returns its size.
func (c *creation) volume(ctx context.Context, i int, w *hypervisorv1.Volume, file string) (uint64, error) {
	v := VolumeSpec{File: file, Format: w.GetFormat(), Size: w.GetSize()}
	if i < len(c.adopt) {
		return c.Volumes.Adopt(ctx, c.adopt[i], v)
	}
	if i > 0 {
		return v.Size, c.Volumes.Empty(ctx, v)
	}
	v.MinimumFree, v.RoundupPower = c.spec.GetMinimumFreeBytes(), c.spec.GetRoundupPower()
	v.Progress = func(done, total uint64) {
		_ = c.tell(&hypervisorv1.CreateVmResponse{ProgressMessage: "getting image", BytesDone: done, BytesTotal: total}) // a client that has gone ends ctx
	}
	switch {
	case c.spec.GetImageDataSize() > 0 && c.image != nil:
		return c.Volumes.FromReader(ctx, c.image, c.spec.GetImageDataSize(), v)
	case c.spec.GetVmInfo().GetImageUrl() != "":
		return c.Volumes.FromURL(ctx, c.spec.GetVmInfo().GetImageUrl(), v)
	case v.MinimumFree > 0:
		v.Size = roundUp(v.MinimumFree, v.RoundupPower)
		return v.Size, c.Volumes.Empty(ctx, v)
	default:
		return 0, fault.New(fault.InvalidArgument, "no image: give vm_info.image_url, image_data_size with image_data, or minimum_free_bytes for an empty volume")
	}
}

func roundUp(n, power uint64) uint64 {
	unit := uint64(1) << power
	return (n + unit - 1) / unit * unit
}

// note writes down that a creation has begun, created that it has ended well and by which request (nil = none that can be repeated), forget that
// nothing is left of it.
func (s *Service) note(ctx context.Context, uuid string) error {
	_, err := s.registry.store.Update(ctx, func(w store.Writer) error { return w.Put(creatingPrefix+uuid, nil) })
	return err
}

func (s *Service) created(ctx context.Context, uuid string, spec *hypervisorv1.CreateVmSpec) error {
	if spec == nil {
		return s.forget(ctx, uuid)
	}
	kept := proto.CloneOf(spec)
	kept.IdentityKey = nil
	raw, err := proto.Marshal(kept)
	if err != nil {
		return fault.As(fault.Internal, err, "vm %s: create request", uuid)
	}
	_, err = s.registry.store.Update(ctx, func(w store.Writer) error {
		return errors.Join(w.Put(requestPrefix+uuid, raw), w.Delete(creatingPrefix+uuid))
	})
	return err
}

func (s *Service) forget(ctx context.Context, uuid string) error {
	_, err := s.registry.store.Update(ctx, func(w store.Writer) error { return w.Delete(creatingPrefix + uuid) })
	return err
}

// recoverInterrupted removes what an earlier daemon left of creations that it could not end.
func (s *Service) recoverInterrupted(ctx context.Context) {
	var uuids []string
	err := s.registry.store.View(ctx, func(r store.Reader) error {
		for e := range r.Scan(creatingPrefix, "") {
			uuids = append(uuids, e.Key[len(creatingPrefix):])
		}
		return nil
	})
	for _, uuid := range uuids {
		err = errJoin(err, s.removeInterrupted(ctx, uuid))
	}
	if err != nil {
		s.Log.LogAttrs(ctx, slog.LevelError, "interrupted creations not removed", slog.Any("error", err))
	}
}

// removeInterrupted removes a VM whose creation an earlier daemon could not end, if it is one. A creation of this daemon holds the VM's lock
// until its note has gone, so a note that is seen under the lock belongs to nobody any more.
func (s *Service) removeInterrupted(ctx context.Context, uuid string) error {
	unlock, err := s.hold(ctx, uuid, uuid)
	if err != nil {
		return err
	}
	defer unlock()
	err = s.registry.store.View(ctx, func(r store.Reader) error {
		_, err := r.Get(creatingPrefix + uuid)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err := errJoin(err, s.remove(ctx, uuid)); err != nil {
		return fault.Wrap(err, "vm %s: remove what an interrupted creation left", uuid)
	}
	s.Log.LogAttrs(ctx, slog.LevelWarn, "removed a VM whose creation was interrupted", slog.String("vm", uuid))
	return s.forget(ctx, uuid)
}

// imageReader reads the image from a CreateVm stream.
type imageReader struct {
	recv func() (*hypervisorv1.CreateVmRequest, error)
	rest []byte
}

func (r *imageReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		m, err := r.recv()
		if err != nil {
			return 0, err
		}
		data, ok := m.GetPart().(*hypervisorv1.CreateVmRequest_ImageData)
		if !ok {
			return 0, fault.New(fault.InvalidArgument, "image_data: %T in its place; the image must come first and whole", m.GetPart())
		}
		r.rest = data.ImageData
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// throttled lets a progress message through only so often; texts that differ from the last one always pass.
func throttled(now func() time.Time, send func(*hypervisorv1.CreateVmResponse) error) func(*hypervisorv1.CreateVmResponse) error {
	var last time.Time
	var text string
	return func(m *hypervisorv1.CreateVmResponse) error {
		if m.GetProgressMessage() == text && now().Sub(last) < progressEvery {
			return nil
		}
		last, text = now(), m.GetProgressMessage()
		return send(m)
	}
}
