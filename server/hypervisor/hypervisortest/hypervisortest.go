// Package hypervisortest is the conformance suite of hypervisor.Driver: what every implementation must do, one function for each
// property. A driver's test calls Run. Machines of other tests may exist on the same host; the suite looks only at its own.
package hypervisortest

import (
	"context"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Harness is a driver with what the suite must do behind its back.
type Harness struct {
	// Driver is the driver under test.
	Driver hypervisor.Driver
	// Reopen opens another driver on the same host. The suite closes it.
	Reopen func(t *testing.T) hypervisor.Driver
	// Crash ends the process of a machine that is alive, without the driver.
	Crash func(t *testing.T, uuid string)
	// SetPaused stops the processors of a Running machine, or lets those of a Paused one run, without the driver.
	SetPaused func(t *testing.T, uuid string, paused bool)
	// Interrupt makes the host's virtualisation service unreachable until resume is called. Only used on an exclusive host.
	Interrupt func(t *testing.T) (resume func())
	// Other opens a driver on another host, for one test; EmptyDisk makes an empty file for a disk of a guest that comes there.
	Other     func(t *testing.T) hypervisor.Driver
	EmptyDisk func(ctx context.Context, d hypervisor.Disk, size uint64) error
	// GuestDisk makes a disk from which the project's test guest (package test/guest) boots, or what behaves like it.
	GuestDisk func(t *testing.T) hypervisor.Disk
	// GuestMemory is how many bytes the guest needs.
	GuestMemory uint64
	// Patience is how long the suite waits for what must happen.
	Patience time.Duration
}

// Opener makes a harness for one test, which lives until the test ends. An exclusive one has a host that no other test uses.
type Opener func(t *testing.T, exclusive bool) Harness

// property is one thing that every driver must do.
type property struct {
	name      string
	exclusive bool
	test      func(t *suite)
}

// suite is the test of one property. It is also a testing.TB.
type suite struct {
	*testing.T
	Harness
}

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	t.Helper()
	for _, p := range append(properties(), virtualisationProperties()...) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.test(&suite{T: t, Harness: open(t, p.exclusive)})
		})
	}
}

func properties() []property {
	return []property{
		{name: "DefineThenGet", test: defineThenGet},
		{name: "DefineChangesAMachine", test: defineChangesAMachine},
		{name: "DefineRenames", test: defineRenames},
		{name: "DefineRefusesBadSpecs", test: defineRefusesBadSpecs},
		{name: "DefineRefusesATakenName", test: defineRefusesATakenName},
		{name: "DefineRefusesALiveMachine", test: defineRefusesALiveMachine},
		{name: "DefineTakesHostileText", test: defineTakesHostileText},
		{name: "DefineTakesManyDevices", test: defineTakesManyDevices},
		{name: "Undefine", test: undefine},
		{name: "ListIsOrdered", test: listIsOrdered},
		{name: "UnknownMachine", test: unknownMachine},
		{name: "HostIsDescribed", test: hostIsDescribed},

		{name: "StartAndKill", test: startAndKill},
		{name: "StoppedMachineRefuses", test: stoppedMachineRefuses},
		{name: "StartNeedsTheDisks", test: startNeedsTheDisks},
		{name: "StartKeepsCPULimit", test: startKeepsCPULimit},
		{name: "AdjustGrowsALiveMachine", test: adjustGrowsALiveMachine},
		{name: "AdjustRefuses", test: adjustRefuses},
		{name: "AdjustChangesTheShare", test: adjustChangesTheShare},
		{name: "ShutdownThatIsIgnored", test: shutdownThatIsIgnored},
		{name: "ShutdownThatIsObeyed", test: shutdownThatIsObeyed},
		{name: "GuestPowersItselfOff", test: guestPowersItselfOff},
		{name: "RebootAndReset", test: rebootAndReset},
		{name: "CrashIsSeen", test: crashIsSeen},
		{name: "ConcurrentMachines", test: concurrentMachines},

		{name: "WatchBeginsWithEveryMachine", test: watchBeginsWithEveryMachine},
		{name: "WatchFollowsChanges", test: watchFollowsChanges},
		{name: "WatchSparesSlowReaders", test: watchSparesSlowReaders},
		{name: "WatchEndsWithItsContext", test: watchEndsWithItsContext},
		{name: "InterruptionIsSurvived", exclusive: true, test: interruptionIsSurvived},

		{name: "SerialIsAPipe", test: serialIsAPipe},
		{name: "SerialHasOneSession", test: serialHasOneSession},
		{name: "SerialEndsWithTheMachine", test: serialEndsWithTheMachine},
		{name: "DisplaySpeaksRFB", test: displaySpeaksRFB},
		{name: "DisplayNeedsVNC", test: displayNeedsVNC},

		{name: "NetworkShape", test: networkShape},
		{name: "NetworkWithoutDHCP", test: networkWithoutDHCP},
		{name: "NetworkWithIPv6", test: networkWithIPv6},
		{name: "NetworkInUse", test: networkInUse},
		{name: "NetworkMustExist", test: networkMustExist},
		{name: "LeasesAreChecked", test: leasesAreChecked},
		{name: "LeasesReachGuests", test: leasesReachGuests},

		{name: "DiskComesAndGrows", test: diskComesAndGrows},
		{name: "DiskAttachRefuses", test: diskAttachRefuses},
		{name: "DiskDetachRefuses", test: diskDetachRefuses},
		{name: "DiskMoves", test: diskMoves},
		{name: "DiskMoveIsAbandoned", test: diskMoveIsAbandoned},
		{name: "DisksAreRedirected", test: disksAreRedirected},
		{name: "DisksAreMergedOff", test: disksAreMergedOff},
		{name: "NVMeDisks", test: nvmeDisks},
		{name: "MonitorAnswers", test: monitorAnswers},

		{name: "MigrationMovesAGuest", test: migrationMovesAGuest},
		{name: "MigrationFails", test: migrationFails},
		{name: "MigrationRefuses", test: migrationRefuses},

		{name: "DisksAreCopied", test: disksAreCopied},
		{name: "ChangesAreCopied", test: changesAreCopied},
		{name: "DefinitionIsRevised", test: definitionIsRevised},
		{name: "MediumIsChanged", test: mediumIsChanged},

		{name: "CancelledCalls", test: cancelledCalls},
		{name: "CancelledStart", test: cancelledStart},
		{name: "AnotherDriverSeesMachines", test: anotherDriverSeesMachines},
		{name: "ClosedDriver", test: closedDriver},
	}
}
