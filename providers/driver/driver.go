// Package driver is what a platform must implement so that VMs can be exported from it.
//
// A Driver is one logged-in session with one platform. It is small on purpose: retries, limits, progress, logging and metrics are done
// once by the shared code around it. Errors are faults (internal/fault) made by the driver's one classify function; their text names the
// object, says what is wrong and what to do. Passwords and tokens never appear in an error, a log line or a URL.
package driver

import (
	"context"
	"io"
	"time"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// PowerState says whether a VM runs.
type PowerState uint8

// The power states.
const (
	PowerUnknown PowerState = iota
	PowerOff
	PowerOn
	PowerSuspended
)

// Firmware is what starts the guest.
type Firmware uint8

// The firmware types.
const (
	FirmwareUnknown Firmware = iota
	FirmwareBIOS
	FirmwareUEFI
)

// VM describes a virtual machine at the source, complete enough to create it elsewhere.
type VM struct {
	// ID is the platform's own key (a managed object id, an instance id); Path is what a user types (inventory path).
	ID, Path, Name string
	// UUID is the VM's BIOS UUID if the platform has one, in the canonical text form.
	UUID        string
	Power       PowerState
	CPUs        uint32
	MemoryBytes uint64
	Firmware    Firmware
	SecureBoot  bool
	// GuestOS is the platform's identifier of the guest system (otherLinux64Guest), GuestName the text for people.
	GuestOS, GuestName string
	// UsedBytes is what the VM occupies at the source, as far as the source says it.
	UsedBytes uint64
	Disks     []DiskInfo
	NICs      []NIC
	// Blockers are reasons why the VM cannot be exported as it is (raw device mapping, shared disk, independent disk of a
	// running VM, encrypted), each a sentence that names the device. Empty means an export may start.
	Blockers []string
	// ChangeVersion changes whenever the platform changed the VM's configuration; empty where there is no such mark.
	ChangeVersion string
}

// DiskInfo describes a disk of a VM.
type DiskInfo struct {
	// ID is stable for the life of the disk within its VM (vSphere: the device key as decimal text).
	ID string
	// Label is the platform's text for people ("Hard disk 1"); File is the backing file or volume there.
	Label, File string
	// Capacity is the virtual size in bytes.
	Capacity int64
	// Bus is scsi, sata, ide or nvme; Controller and Unit give the place on it. The boot disk comes first in VM.Disks.
	Bus              string
	Controller, Unit int
	// ControllerModel is the kind of controller behind the bus where several exist (lsilogic, lsilogic-sas, pvscsi, buslogic, ahci),
	// or empty where the platform has or tells only one.
	ControllerModel string
	Thin            bool
}

// NIC describes a network card of a VM.
type NIC struct {
	Label string
	// MAC is in lower-case colon form.
	MAC string
	// Network is the name of the network at the source; Model is e1000, e1000e, vmxnet3, virtio or the platform's own word.
	Network, Model string
	Connected      bool
}

// Driver is a session with a platform. All methods may be called from several goroutines at once.
type Driver interface {
	// ListVMs returns the VMs whose path or name matches the pattern (path.Match; "" = all), without Disks and NICs where getting
	// them costs a call per VM, ordered by path.
	ListVMs(ctx context.Context, pattern string) ([]VM, error)
	// GetVM returns one VM by path, name or ID. NotFound names the VM and, where cheap, similar names; a name that fits several
	// VMs is InvalidArgument and lists their paths.
	GetVM(ctx context.Context, ref string) (VM, error)
	// Open makes a consistent view of a VM's disks. A powered-off VM is read as it is, a running one through a snapshot that Open
	// makes. The caller must call View.Close on every way out; cancelling ctx afterwards does not close the view.
	Open(ctx context.Context, ref string, opts OpenOptions) (View, error)
	// Close ends the session. It does not close views.
	Close(ctx context.Context) error
}

// OpenOptions says how a view is made.
type OpenOptions struct {
	// Resume is a View.Token from before a crash. If the same consistent state is still there (same snapshot, or the VM unchanged and still
	// off), the view continues from it and Resumed is true; otherwise leftovers named by the token are removed and a fresh view is made.
	Resume []byte
	// SnapshotName is the name of a snapshot made for the view, so that an admin who sees it knows whose it is.
	SnapshotName string
	// Quiesce asks the guest to flush its file systems first; if it cannot, Open fails with FailedPrecondition.
	Quiesce bool
	// Note is called with sentences for the job's log: which way was chosen, what was waited for. May be nil.
	Note func(format string, args ...any)
	// Created is called with a token when the view is about to make something at the source that must be removed again (a snapshot), and
	// again, with a token that replaces the first, when it was made; both before Open returns, so that the caller can persist it and
	// nothing is forgotten by a crash in between. An error ends Open, which then cleans up. May be nil.
	Created func(token []byte) error
}

// View is a frozen state of one VM's disks.
type View interface {
	// VM describes the VM as it was when the view was made.
	VM() VM
	// Token is opaque data with which Open finds this state again after a crash. It holds no secret.
	Token() []byte
	// Resumed says whether the view continues the state named by OpenOptions.Resume.
	Resumed() bool
	// OpenDisk opens the content of a disk in VM().Disks. Several disks may be open at once; each may be opened again after its Content
	// was closed, for a retry.
	OpenDisk(ctx context.Context, id string) (Content, error)
	// Verify compares digests of the bytes received for a disk's Stream with those that the source gives, by hash name ("sha1", "sha256")
	// in lower-case hex. It returns the names compared; none if the source gives no digest. A difference is a DataLoss fault.
	Verify(ctx context.Context, id string, digests map[string]string) ([]string, error)
	// Detach ends the view but leaves at the source what Token names (a snapshot), for an Open with Resume by a later process: a lease ends as
	// aborted, streams end with an error. It must be called with a context that is not yet cancelled; Close afterwards does nothing.
	Detach(ctx context.Context) error
	// Close releases everything the view holds at the source: lease, snapshot. It must be called even if reading failed, with a context that
	// is not yet cancelled, and may be called again after an error. complete says that everything was read (the lease then ends as completed,
	// otherwise as aborted).
	Close(ctx context.Context, complete bool) error
}

// Content is the content of one disk, in exactly one of two shapes.
type Content struct {
	// Reader is set if the disk can be read anywhere.
	Reader image.Reader
	// Stream is set if the source sends a file of the given Format ("vmdk") from front to back. Reading it may block; it ends with an
	// error when the context given to OpenDisk ends. A connection cut early is an error, never io.EOF.
	Stream io.ReadCloser
	Format string
	// StreamSize is the number of bytes Stream will deliver if the source says so, otherwise -1.
	StreamSize int64
	// Digests names the hashes ("sha1", "sha256") of the bytes of Stream that the source can give to View.Verify afterwards, the best first.
	// A caller who wants to compare needs to compute only the first one. Empty if the source gives none.
	Digests []string
}

// Settings are how to reach a platform. Which fields are used, and required, is the provider's business; a field it has no use for
// is an InvalidArgument fault that names it.
type Settings struct {
	URL                string
	Username           string
	Password           Secret
	InsecureSkipVerify bool
	// CAFile is a PEM bundle that the server's certificate must chain to; Thumbprint a SHA-256 (or SHA-1) of the certificate itself.
	CAFile, Thumbprint string
	Timeout            time.Duration
	// Parallel is how many disks are read at once, at most; 0 = the provider's default.
	Parallel int
}
