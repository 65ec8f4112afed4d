package hypervisor

import (
	"context"
	"errors"
	"io"
	"time"
)

// Migration moves machines between two hosts while their guests go on. The caller carries everything between the two drivers: small texts (Offer, answer,
// result) and the streams that the two emulators have between each other. The order is
//
//	source: Depart; destination: Arrive; source: Departure.Perform; destination: Arrival.Finish; source: Departure.Finish
//
// Until Perform has returned without error the machine is Running at the source only; after that it is Paused there, and Running at the destination once
// Arrival.Finish has returned without error. So it never runs twice, and if the two lose each other in between it is nowhere lost.
type Migration interface {
	// Depart begins to send a machine that is Running; nothing else may change it until the departure has ended. FailedPrecondition or Unimplemented if it can
	// not be moved while it runs. Finish or Close must be called.
	Depart(ctx context.Context, uuid string) (Departure, error)
	// Arrive defines a machine, which must not exist, and makes it ready to be received, with files for its disks that have the sizes of the offer. What s
	// says is for the machine's next start; until then it keeps the hardware that it had at its source. FailedPrecondition if this host can not run it.
	// Finish or Close must be called. After an error nothing is left but, at most, a machine that is Off.
	Arrive(ctx context.Context, s Spec, o Offer) (Arrival, error)
	// Continue lets a machine run that is Paused, because it is not Running at the destination of a migration that has ended. A Running one is no error.
	Continue(ctx context.Context, uuid string) error
}

// ErrOutcomeUnknown is in an error of Arrival.Finish after which it is not known whether the machine runs, because the host's virtualisation service has
// stopped answering. The source must then not go on with it.
var ErrOutcomeUnknown = errors.New("it is not known whether the machine runs")

// Stream is a kind of connection between the emulators of the two hosts.
type Stream uint8

// The kinds of streams.
const (
	// MemoryStream carries memory and the devices' state, StorageStream the content of disks.
	MemoryStream Stream = iota
	StorageStream
)

// Offer is what a source tells the destination of a machine.
type Offer struct {
	// Description and Cookie are the virtualisation service's own. They may hold secrets.
	Description, Cookie []byte
	// DiskSizes are the sizes of the disks in bytes, in the order of the Spec and without those that are read-only, whose files the destination must have.
	DiskSizes []uint64
}

// MigrationProgress is how far a move is. Totals grow while the guest writes.
type MigrationProgress struct {
	DisksDone, DisksTotal, MemoryDone, MemoryTotal uint64
}

// Departure is a machine that leaves.
type Departure interface {
	// Offer is what the destination must be told.
	Offer() Offer
	// Perform moves the machine; answer is what Arrival.Answer returned. connect is called for each connection that the emulator makes, several at a time, and
	// must carry it to Arrival.Connect; it returns when the connection has ended, also because ctx has. progress is called about once a second. The result is
	// for Arrival.Finish. After an error, also when ctx ends, the machine is Running here as if nothing had been.
	Perform(ctx context.Context, answer []byte, connect func(ctx context.Context, s Stream, conn io.ReadWriteCloser), progress func(MigrationProgress)) (result []byte, err error)
	// Finish ends a departure. moved says that the machine is Running at the destination: then it is Off here. Otherwise it is Running here.
	Finish(ctx context.Context, moved bool) error
	// Close lets go. A machine that Perform has moved stays Paused; otherwise it is Running here. After Finish it does nothing.
	Close() error
}

// Arrival is a machine that comes.
type Arrival interface {
	// Answer is for Departure.Perform.
	Answer() []byte
	// Connect connects to the emulator that waits for the machine.
	Connect(ctx context.Context, s Stream) (io.ReadWriteCloser, error)
	// Finish lets the machine run; result is what Departure.Perform returned. After an error it does not run here, unless that is ErrOutcomeUnknown.
	Finish(ctx context.Context, result []byte) (MigrationFigures, error)
	// Close lets go. A machine that has not been let run is Off. After Finish it does nothing.
	Close() error
}

// MigrationFigures say how a machine has moved; 0 = not known.
type MigrationFigures struct {
	// Downtime is how long the guest stood still, Total how long the move took.
	Downtime, Total time.Duration
}
