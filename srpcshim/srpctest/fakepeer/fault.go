package fakepeer

// Kind is how a call fails.
type Kind uint8

// The kinds of faults.
const (
	// Refuse answers the method line with an error.
	Refuse Kind = iota + 1
	// Deny answers the request with a line of error, without a reply; a method without a status line ends the connection.
	Deny
	// Fail answers with an error in the reply. Nothing is done.
	Fail
	// Cut ends the connection after the request; nothing is done.
	Cut
	// Lose ends the connection after the call was done, without an answer.
	Lose
	// Hang answers nothing, for ever.
	Hang
	// Tear ends the connection after some bytes of a volume.
	Tear
	// Overflow says that a block is larger than asked for.
	Overflow
	// Stray sends a block that is not one of the volume's.
	Stray
	// Linger ends the connection of a StopVm, which goes on: the VM is STOPPING until it was asked for twice more.
	Linger
	// Garbage answers with bytes that are no message.
	Garbage
)

// Fault makes the nth call of a method (from 1; 0 = each) fail.
type Fault struct {
	Method string
	Nth    int
	Kind   Kind
	// Text is what is answered.
	Text string
}

// fault returns the fault for a call that is to be recorded.
func (p *Peer) fault(method string) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	nth := 1
	for _, c := range p.calls {
		if c.Method == method {
			nth++
		}
	}
	for _, f := range p.opts.Faults {
		if f.Method == method && (f.Nth == nth || f.Nth == 0) {
			return f
		}
	}
	return Fault{}
}
