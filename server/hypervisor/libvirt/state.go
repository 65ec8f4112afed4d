package libvirt

import (
	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// domainState is virDomainState with its reason.
type domainState struct {
	state  golibvirt.DomainState
	reason int32
}

// memory is what the driver knows of a machine and libvirt does not. It is lost when the driver is closed: a guest that was asked to
// power off is then Running again until it does.
type memory struct {
	// state is what the machine was last seen in; known says whether it was seen at all.
	state hypervisor.State
	known bool
	run
}

// run is what was seen of one run of a machine, from its start to the next.
type run struct {
	asked     bool // the guest was asked to power off
	killed    bool // Kill was called
	hostEnded bool // QEMU told of a signal that ended it
}

// next says what state a machine is in, and what is to be remembered of it.
func (m memory) next(now domainState) memory {
	if now.alive() && m.known && !m.state.Alive() {
		m.run = run{} // somebody else started it
	}
	m.state, m.known = m.judge(now), true
	return m
}

func (s domainState) alive() bool {
	return s.state != golibvirt.DomainShutoff && s.state != golibvirt.DomainCrashed && s.state != golibvirt.DomainNostate
}

func (m memory) judge(now domainState) hypervisor.State {
	switch now.state {
	case golibvirt.DomainRunning, golibvirt.DomainBlocked:
		if m.asked {
			return hypervisor.Stopping
		}
		return hypervisor.Running
	case golibvirt.DomainPaused, golibvirt.DomainPmsuspended:
		return hypervisor.Paused
	case golibvirt.DomainShutdown: // the guest has powered off, the process is about to end
		return hypervisor.Stopping
	case golibvirt.DomainCrashed:
		return hypervisor.Crashed
	default:
		return m.judgeOff(golibvirt.DomainShutoffReason(now.reason))
	}
}

// judgeOff says whether a machine without a process ended by the guest's or our wish (Off) or not (Crashed).
func (m memory) judgeOff(reason golibvirt.DomainShutoffReason) hypervisor.State {
	if m.killed {
		return hypervisor.Off
	}
	switch reason {
	case golibvirt.DomainShutoffCrashed, golibvirt.DomainShutoffFailed:
		return hypervisor.Crashed
	case golibvirt.DomainShutoffShutdown:
		if m.hostEnded { // QEMU takes SIGTERM for an order to power off
			return hypervisor.Crashed
		}
		return hypervisor.Off
	case golibvirt.DomainShutoffDestroyed, golibvirt.DomainShutoffUnknown, golibvirt.DomainShutoffDaemon:
		// Destroyed, but not by us; or libvirtd was restarted and has lost the reason.
		switch {
		case !m.known: // an earlier driver may have wished it
			return hypervisor.Off
		case m.state.Alive():
			return hypervisor.Crashed
		default:
			return m.state
		}
	default: // migrated, saved, reverted
		return hypervisor.Off
	}
}
