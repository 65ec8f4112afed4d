package vcentersim

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// lease is an export lease with the life that vCenter gives it: initializing, ready, and gone when it is completed, aborted, or not renewed in time.
type lease struct {
	mo.HttpNfcLease // first, because the property collector looks for it there

	sim     *Simulator
	secret  string // in the URLs
	machine *machine
	of      types.ManagedObjectReference
	files   []*leaseFile
	renew   chan struct{}
	ended   chan struct{} // closed when the lease is over, for whatever reason

	// The rest is guarded by sim.mu.
	serving  bool   // the URLs work, as long as the lease is open
	state    string // open, complete, aborted, expired
	progress []int32
}

// leaseFile is a disk as a lease gives it.
type leaseFile struct {
	disk       *disk
	generation int
	name       string
	key        string
	stream     encoded
	sent       bool // to its end; guarded by sim.mu
	lie        bool // the manifest shall be wrong; guarded by sim.mu
}

// openLease makes a lease in the state initializing and starts its life.
func (s *Simulator) openLease(ctx *simulator.Context, m *machine, of types.ManagedObjectReference, generations map[*disk]int) types.ManagedObjectReference {
	l := &lease{
		sim: s, secret: rand.Text(), machine: m, of: of, state: LeaseOpen,
		renew: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	l.Self.Type = "HttpNfcLease"
	l.State = types.HttpNfcLeaseStateInitializing
	l.Mode = string(types.HttpNfcLeaseModePushOrGet)
	for i, d := range m.disks {
		l.files = append(l.files, &leaseFile{
			disk: d, generation: generations[d], name: fmt.Sprintf("disk-%d.vmdk", i), key: "/" + m.ref.Value + "/" + d.slot,
		})
	}
	ctx.Session.Put(l)
	s.mu.Lock()
	s.leases[l.secret] = l
	s.mu.Unlock()
	// The life of the lease goes on when the call that opened it is over; its updates need a context of their own.
	own := &simulator.Context{Context: s.ctx, Map: ctx.Map, Session: ctx.Session}
	s.running.Go(func() { l.live(own) })
	return l.Self
}

// live takes the lease through its states.
func (l *lease) live(ctx *simulator.Context) {
	s := l.sim
	if !wait(s.ctx, s.cfg.LeaseDelay, l.ended) {
		return
	}
	for _, f := range l.files {
		out, err := s.streams.get(s.ctx, f.disk, f.generation)
		if err != nil {
			l.fail(ctx, &types.SystemError{Reason: err.Error()}, err.Error())
			return
		}
		f.stream = out
	}
	l.ready(ctx)
	timer := time.NewTimer(s.cfg.LeaseTimeout)
	defer timer.Stop()
	for {
		select {
		case <-l.renew:
			timer.Reset(s.cfg.LeaseTimeout)
		case <-timer.C:
			l.fail(ctx, &types.Timedout{}, "The operation timed out")
			return
		case <-l.ended:
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// wait waits for d unless something ends first.
func wait(ctx context.Context, d time.Duration, ended <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ended:
		return false
	case <-ctx.Done():
		return false
	}
}

func (l *lease) ready(ctx *simulator.Context) {
	host := l.sim.server.URL.Host
	if l.sim.cfg.LeaseHost != "" {
		host = l.sim.cfg.LeaseHost + ":" + l.sim.server.URL.Port()
	}
	info := &types.HttpNfcLeaseInfo{
		Lease: l.Self, Entity: l.machine.ref,
		LeaseTimeout: int32(math.Ceil(l.sim.cfg.LeaseTimeout.Seconds())),
	}
	for _, f := range l.files {
		info.TotalDiskCapacityInKB += f.disk.content.base.Info().VirtualSize >> 10
		info.DeviceUrl = append(info.DeviceUrl, types.HttpNfcLeaseDeviceUrl{
			Key: f.key, Url: "https://" + host + "/nfc/" + l.secret + "/" + f.name,
			SslThumbprint: thumbprint(l.sim.tls.Certificate[0]), Disk: new(true), TargetId: f.name,
		})
	}
	l.sim.mu.Lock()
	l.serving = true
	l.sim.mu.Unlock()
	l.update(ctx, types.PropertyChange{Name: "info", Val: info},
		types.PropertyChange{Name: "initializeProgress", Val: int32(100)},
		types.PropertyChange{Name: "state", Val: types.HttpNfcLeaseStateReady})
}

// fail ends the lease in the state error.
func (l *lease) fail(ctx *simulator.Context, why types.BaseMethodFault, text string) {
	if !l.over(LeaseExpired) {
		return
	}
	l.update(ctx, types.PropertyChange{Name: "error", Val: &types.LocalizedMethodFault{Fault: why, LocalizedMessage: text}},
		types.PropertyChange{Name: "state", Val: types.HttpNfcLeaseStateError})
}

func (l *lease) update(ctx *simulator.Context, changes ...types.PropertyChange) {
	ctx.WithLock(l, func() { ctx.Update(l, changes) })
}

// over ends the lease once; only the first reason counts.
func (l *lease) over(state string) bool {
	l.sim.mu.Lock()
	defer l.sim.mu.Unlock()
	if l.state != LeaseOpen {
		return false
	}
	l.state = state
	close(l.ended)
	return true
}

// isOpen reports whether the lease may still be used.
func (l *lease) isOpen() bool {
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}

// leased reports whether an open lease reads the object itself.
func (s *Simulator) leased(of types.ManagedObjectReference) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		if l.of == of && l.state == LeaseOpen {
			return true
		}
	}
	return false
}

// HttpNfcLeaseProgress renews the lease.
func (l *lease) HttpNfcLeaseProgress(_ *simulator.Context, req *types.HttpNfcLeaseProgress) soap.HasFault {
	body := new(methods.HttpNfcLeaseProgressBody)
	if !l.isOpen() {
		body.Fault_ = simulator.Fault("The operation timed out", &types.Timedout{})
		return body
	}
	l.sim.mu.Lock()
	l.progress = append(l.progress, req.Percent)
	l.sim.mu.Unlock()
	l.TransferProgress = req.Percent
	select {
	case l.renew <- struct{}{}:
	default: // the one that waits there says the same
	}
	body.Res = new(types.HttpNfcLeaseProgressResponse)
	return body
}

// HttpNfcLeaseComplete ends the lease.
func (l *lease) HttpNfcLeaseComplete(ctx *simulator.Context, req *types.HttpNfcLeaseComplete) soap.HasFault {
	body := new(methods.HttpNfcLeaseCompleteBody)
	if !l.over(LeaseComplete) {
		body.Fault_ = simulator.Fault("The operation timed out", &types.Timedout{})
		return body
	}
	ctx.Session.Remove(ctx, req.This)
	body.Res = new(types.HttpNfcLeaseCompleteResponse)
	return body
}

// HttpNfcLeaseAbort ends the lease.
func (l *lease) HttpNfcLeaseAbort(ctx *simulator.Context, req *types.HttpNfcLeaseAbort) soap.HasFault {
	body := new(methods.HttpNfcLeaseAbortBody)
	if !l.over(LeaseAborted) {
		body.Fault_ = simulator.Fault("The operation timed out", &types.Timedout{})
		return body
	}
	ctx.Session.Remove(ctx, req.This)
	body.Res = new(types.HttpNfcLeaseAbortResponse)
	return body
}

// HttpNfcLeaseSetManifestChecksumType accepts SHA-1 and SHA-256. The manifest holds both whatever was chosen.
func (l *lease) HttpNfcLeaseSetManifestChecksumType(_ *simulator.Context, req *types.HttpNfcLeaseSetManifestChecksumType) soap.HasFault {
	body := new(methods.HttpNfcLeaseSetManifestChecksumTypeBody)
	for _, kv := range req.DeviceUrlsToChecksumTypes {
		switch types.HttpNfcLeaseManifestEntryChecksumType(kv.Value) {
		case types.HttpNfcLeaseManifestEntryChecksumTypeSha1, types.HttpNfcLeaseManifestEntryChecksumTypeSha256:
		default:
			body.Fault_ = simulator.Fault("", &types.InvalidArgument{InvalidProperty: "deviceUrlsToChecksumTypes"})
			return body
		}
	}
	body.Res = new(types.HttpNfcLeaseSetManifestChecksumTypeResponse)
	return body
}

// HttpNfcLeaseGetManifest lists the files that were sent to their end.
func (l *lease) HttpNfcLeaseGetManifest(_ *simulator.Context, _ *types.HttpNfcLeaseGetManifest) soap.HasFault {
	body := new(methods.HttpNfcLeaseGetManifestBody)
	if !l.isOpen() {
		body.Fault_ = simulator.Fault("The operation timed out", &types.Timedout{})
		return body
	}
	body.Res = new(types.HttpNfcLeaseGetManifestResponse)
	l.sim.mu.Lock()
	defer l.sim.mu.Unlock()
	for _, f := range l.files {
		if !f.sent {
			continue
		}
		e := types.HttpNfcLeaseManifestEntry{
			Key: f.key, Size: f.stream.size, Sha1: f.stream.sha1,
			Checksum: f.stream.sha256, ChecksumType: string(types.HttpNfcLeaseManifestEntryChecksumTypeSha256),
			Disk: true, Capacity: f.disk.content.base.Info().VirtualSize,
		}
		if f.lie {
			e.Sha1, e.Checksum = falsify(e.Sha1), falsify(e.Checksum)
		}
		body.Res.Returnval = append(body.Res.Returnval, e)
	}
	return body
}

// falsify changes the first digit of a digest.
func falsify(digest string) string {
	first := "0"
	if digest[0] == '0' {
		first = "1"
	}
	return first + digest[1:]
}

// expireNow lets the lease time out at once.
func (l *lease) expireNow() {
	l.fail(&simulator.Context{Context: l.sim.ctx, Map: l.sim.model.Map()}, &types.Timedout{}, "The operation timed out")
}
