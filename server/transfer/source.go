package transfer

import (
	"context"
	"errors"
	"net"
	"regexp"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// source is a VM on another host, with the right to it that the caller has.
type source struct {
	conn      Conn
	vms       hypervisorv1.VmServiceClient
	transfers hypervisorv1.VmTransferServiceClient
	volumes   hypervisorv1.VolumeServiceClient
	userData  hypervisorv1.UserDataServiceClient
	peers     hypervisorv1.PeerServiceClient

	address string
	token   []byte
	info    *hypervisorv1.VmInfo
}

// open connects to the source and reads the VM. The caller must show the VM's token: that this host may do something there does not mean that its callers
// may, and a name that is known here need not be the same person there.
func (s *Service) open(ctx context.Context, address, vm string, token []byte) (*source, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "source_hypervisor %q: must be host:port", address)
	}
	if vm == "" {
		return nil, fault.New(fault.InvalidArgument, "vm: is empty; give the VM's IP address, UUID or name at the source")
	}
	if len(token) == 0 {
		return nil, fault.New(fault.PermissionDenied, "access_token: is missing; get one for the VM with GetVmAccessToken at %s", address)
	}
	conn, err := s.Hosts.Dial(ctx, address)
	if err != nil {
		return nil, fault.Wrap(err, "source_hypervisor %s", address)
	}
	src := &source{
		conn: conn, vms: hypervisorv1.NewVmServiceClient(conn), transfers: hypervisorv1.NewVmTransferServiceClient(conn),
		volumes: hypervisorv1.NewVolumeServiceClient(conn), userData: hypervisorv1.NewUserDataServiceClient(conn), peers: hypervisorv1.NewPeerServiceClient(conn), address: address, token: token,
	}
	res, err := src.vms.GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: vm})
	if err != nil {
		return nil, errors.Join(src.fault(err, "find the VM"), conn.Close())
	}
	src.info = res.GetVmInfo()
	if err := checkNames(src.info, vm); err != nil {
		return nil, errors.Join(fault.Wrap(err, "source_hypervisor %s", address), conn.Close())
	}
	return src, nil
}

// uuidForm is what names of folders and machines are made of here.
var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// checkNames checks that a source names a VM as it should. A source that speaks only SRPC has no UUIDs: there the IP address is the VM's name.
func checkNames(info *hypervisorv1.VmInfo, asked string) error {
	if id := info.GetUuid(); id != "" {
		if !uuidForm.MatchString(id) {
			return fault.New(fault.DataLoss, "vm %s has the UUID %q, which is none", asked, id)
		}
		return nil
	}
	if ip := info.GetAddress().GetIpAddress(); ip != asked {
		return fault.New(fault.DataLoss, "vm %s: is answered for with the VM %q", asked, ip)
	}
	return nil
}

// ref names the VM at the source.
func (src *source) ref() string {
	if src.foreign() {
		return src.info.GetAddress().GetIpAddress()
	}
	return src.info.GetUuid()
}

// foreign says that the source is no Hyperplane.
func (src *source) foreign() bool { return src.info.GetUuid() == "" }

func (src *source) close() error { return src.conn.Close() }

// fault is an error of the source as one of ours.
func (src *source) fault(err error, what string) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return fault.Wrap(err, "source_hypervisor %s: %s", src.address, what)
	}
	code := fault.Code(st.Code())
	if st.Code() == codes.Unauthenticated {
		code = fault.PermissionDenied // it is not the caller who was not recognised
	}
	return fault.New(code, "source_hypervisor %s: %s: %s", src.address, what, st.Message())
}

func (src *source) stop(ctx context.Context) error {
	_, err := src.vms.StopVm(ctx, &hypervisorv1.StopVmRequest{Vm: src.ref(), AccessToken: src.token})
	return src.fault(err, "stop the VM")
}

func (src *source) start(ctx context.Context) error {
	_, err := src.vms.StartVm(ctx, &hypervisorv1.StartVmRequest{Vm: src.ref(), AccessToken: src.token})
	return src.fault(err, "start the VM again")
}

// prepare takes the VM out of service there, or puts it back.
func (src *source) prepare(ctx context.Context, enable bool) error {
	_, err := src.transfers.PrepareVmForMigration(ctx, &hypervisorv1.PrepareVmForMigrationRequest{Vm: src.ref(), AccessToken: src.token, Enable: enable})
	if enable {
		return src.fault(err, "take the VM out of service")
	}
	return src.fault(err, "put the VM back into service")
}

// backInService makes sure that a VM that was to be moved while it runs goes on at the source.
func (src *source) backInService(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sourceSilence)
	defer cancel()
	runs := func() (bool, error) {
		res, err := src.vms.GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: src.ref()})
		return res.GetVmInfo().GetState() == hypervisorv1.State_STATE_RUNNING, err
	}
	if ok, err := runs(); ok || err != nil {
		return src.fault(err, "see whether the VM goes on")
	}
	// It waits until the source has done what it does by itself; then there may be nothing left to do.
	err := src.prepare(ctx, false)
	if ok, _ := runs(); ok {
		return nil
	}
	return err
}

func (src *source) destroy(ctx context.Context) error {
	_, err := src.vms.DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: src.ref(), AccessToken: src.token})
	return src.fault(err, "destroy the VM")
}

// readUserData returns the VM's user data.
func (src *source) readUserData(ctx context.Context) ([]byte, error) {
	const most = 16 << 20
	stream, err := src.userData.GetVmUserData(ctx, &hypervisorv1.GetVmUserDataRequest{Vm: src.ref(), AccessToken: src.token})
	if err != nil {
		return nil, src.fault(err, "read the user data")
	}
	var content []byte
	for length := uint64(0); ; {
		m, err := stream.Recv()
		if err != nil && uint64(len(content)) == length && isEnd(err) {
			return content, nil
		}
		if err != nil {
			return nil, src.fault(err, "read the user data")
		}
		length = max(length, m.GetLength())
		if content = append(content, m.GetData()...); length > most || uint64(len(content)) > length {
			return nil, fault.New(fault.DataLoss, "source_hypervisor %s: sent %d bytes of user data for a length of %d", src.address, len(content), length)
		}
	}
}
