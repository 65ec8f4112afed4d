// Package drivertest is the conformance suite of driver.Driver: one function per property, run against every provider.
//
// A provider's test calls Run with a function that starts a fresh peer (a simulator, a fake, a real server) and fills a Harness. Each
// property gets a peer of its own. What a platform cannot have (a lease that expires, digests of its own) is named in Harness.Without with
// the reason; a hook that is missing without a reason fails the suite.
package drivertest

import (
	"context"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// Machine is a VM that the peer has, with what it knows of it.
type Machine struct {
	// Path and Name are what driver.VM must say.
	Path, Name string
	// Disks is the content of each disk, in boot order.
	Disks [][]byte
}

// Harness is a peer and the hooks to make things happen there.
type Harness struct {
	// Driver is logged in. The suite closes it.
	Driver driver.Driver
	// Reconnect logs in once more, as after a restart of the process.
	Reconnect func(ctx context.Context) (driver.Driver, error)
	// Off is a VM that is powered off and has at least two disks of at least 2 MiB; On is one that runs. Their names differ.
	Off, On Machine
	// Ambiguous is a name that several VMs have, Similar one that no VM has but that differs from Off.Name in few letters.
	Ambiguous, Similar string
	// Blocked is the path of a VM that cannot be exported.
	Blocked string

	// Decode reads a content to its end and returns the disk's bytes.
	Decode func(t *testing.T, c driver.Content) ([]byte, error)
	// Leftovers returns a sentence for everything that exports have left at the platform: snapshots, leases, temporary volumes.
	Leftovers func() []string
	// Power starts or stops a VM, by name.
	Power func(ctx context.Context, name string, on bool) error
	// GuestWrite writes to a disk as the guest would.
	GuestWrite func(name string, disk int, p []byte, off int64) error

	// WrongPassword logs in with the password given, which is wrong.
	WrongPassword func(ctx context.Context, password string) error

	// ViewLife is how long a view lives that nobody cares for.
	ViewLife time.Duration
	// Cut drops the connection of the next read of a disk at a percentage of its stream.
	Cut func(name string, disk int, percent float64) error
	// Expire ends the view at the platform when the next read of a disk has come to a percentage.
	Expire func(name string, disk int, percent float64) error
	// Slow limits all reads of a disk to so many bytes per second.
	Slow func(name string, disk int, bytesPerSecond int64) error
	// FalsifyDigest makes the platform state a wrong digest for the next read of a disk.
	FalsifyDigest func(name string, disk int) error

	// Without gives, by the name of a hook, the reason why the platform cannot have it.
	Without map[string]string
}

// Run runs all properties. start makes a fresh peer; it registers its own cleanup.
func Run(t *testing.T, start func(t *testing.T) *Harness) {
	t.Helper()
	properties := []struct {
		name string
		test func(*testing.T, *Harness)
	}{
		{"ListFindsAll", testListFindsAll},
		{"ListByPattern", testListByPattern},
		{"GetByPathNameAndID", testGet},
		{"GetMissingNamesSimilar", testGetMissing},
		{"GetAmbiguous", testGetAmbiguous},
		{"WrongPassword", testWrongPassword},
		{"BlockedVM", testBlocked},
		{"ExportOff", testExportOff},
		{"ExportOnIsFrozen", testExportOn},
		{"CreatedComesFirst", testCreated},
		{"CreatedErrorLeavesNothing", testCreatedError},
		{"UnknownDisk", testUnknownDisk},
		{"ParallelDisks", testParallelDisks},
		{"SlowReaderKeepsView", testSlowReader},
		{"ExpiryIsAborted", testExpiry},
		{"CutThenRetry", testCut},
		{"CancelOpenLeavesNothing", testCancelOpen},
		{"CancelReadLeavesNothing", testCancelRead},
		{"CloseTwice", testCloseTwice},
		{"CloseEndsStreams", testCloseEndsStreams},
		{"ResumeSnapshot", testResumeSnapshot},
		{"DetachThenResume", testDetach},
		{"ResumeOffUnchanged", testResumeOff},
		{"ResumeOffChanged", testResumeChanged},
		{"ResumeDamagedToken", testResumeDamaged},
		{"VerifyTrue", testVerify},
		{"VerifyFalseDigest", testVerifyFalse},
		{"VerifyUnread", testVerifyUnread},
	}
	for _, p := range properties {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			h := start(t)
			p.test(t, h)
			// The context of the test ends before its cleanups run, so that the driver is closed here.
			if err := h.Driver.Close(t.Context()); err != nil {
				t.Errorf("close the driver: %v", err)
			}
		})
	}
}
