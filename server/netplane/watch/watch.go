// Package watch sees the DHCP packets that pass network interfaces, in both directions, without taking part.
package watch

import (
	"context"
	"errors"
	"hash/maphash"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// backlog is how many packets a reader may be behind.
	backlog = 256
	// repeatTime is how long the same packet is taken for one that was seen on another interface, or in the other direction, before. A client that gets
	// no answer asks again after a second at the earliest.
	repeatTime = 200 * time.Millisecond
)

// Packet is a DHCP message and the interface it passed.
type Packet struct {
	Interface string
	Payload   []byte
}

// Watch sends the packets of the interfaces until ctx ends or the reader is too slow, and then the reason. FailedPrecondition if an interface is not there.
func Watch(ctx context.Context, devices []string) (packets <-chan Packet, failed <-chan error, err error) {
	w := &watcher{out: make(chan Packet, backlog), seen: make(map[uint64]time.Time), seed: maphash.MakeSeed()}
	var files []*os.File
	for _, device := range devices {
		f, err := open(device)
		if err != nil {
			return nil, nil, errors.Join(err, closeAll(files))
		}
		files = append(files, f)
	}
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { _ = closeAll(files) }) // ends the readers
	ended := make(chan error, 1)
	var readers sync.WaitGroup
	for i, f := range files {
		readers.Go(func() {
			defer cancel() // one that ends, ends all
			if err := w.read(devices[i], f); err != nil {
				select {
				case ended <- err:
				default:
				}
			}
		})
	}
	go func() {
		readers.Wait()
		cancel()
		close(ended)
	}()
	return w.out, ended, nil
}

func closeAll(files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// open makes a socket that receives the DHCP packets of an interface (packet(7)).
func open(device string) (*os.File, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fault.New(fault.FailedPrecondition, "interface %s: does not exist in the network that the daemon runs in", device)
	}
	// ETH_P_ALL: with ETH_P_IP only what comes in would be seen. Protocol 0 until it is bound, so that nothing comes in before the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fault.As(fault.Unavailable, err, "watch %s", device)
	}
	f := os.NewFile(uintptr(fd), device)
	err = attach(fd)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8, Ifindex: link.Index})
	}
	if err != nil {
		return nil, errors.Join(fault.As(fault.Unavailable, err, "watch %s", device), f.Close())
	}
	return f, nil
}

// attach lets only IPv4 packets of UDP with a DHCP port on both sides through. Offsets are from the IP header, because the socket takes the header of the
// link away.
func attach(fd int) error {
	const protocolUDP, serverPort, clientPort = unix.IPPROTO_UDP, 67, 68
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 9},
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolUDP, SkipTrue: 7},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 5}, // a later fragment has no ports
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 2, Size: 2}, // destination
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: serverPort, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: clientPort, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

type watcher struct {
	out  chan Packet
	seed maphash.Seed
	mu   sync.Mutex
	seen map[uint64]time.Time
}

func (w *watcher) read(device string, f *os.File) error {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fault.As(fault.Unavailable, err, "watch %s", device)
		}
		payload, ok := Payload(buf[:n])
		if !ok || w.repeated(payload, time.Now()) {
			continue
		}
		select {
		case w.out <- Packet{Interface: device, Payload: append([]byte(nil), payload...)}:
		default:
			return fault.New(fault.ResourceExhausted, "watch %s: the reader is %d packets behind; read faster or watch fewer interfaces", device, backlog)
		}
	}
}

// repeated reports whether the same packet was seen a moment ago: a bridge and its ports both see it, and a loopback twice.
func (w *watcher) repeated(payload []byte, now time.Time) bool {
	key := maphash.Bytes(w.seed, payload)
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, at := range w.seen {
		if now.Sub(at) > repeatTime {
			delete(w.seen, k)
		}
	}
	_, again := w.seen[key]
	if !again {
		w.seen[key] = now
	}
	return again
}

// Payload returns what an IPv4 packet's UDP datagram carries.
func Payload(p []byte) (payload []byte, ok bool) {
	if len(p) < 20 || p[0]>>4 != 4 {
		return nil, false
	}
	header := int(p[0]&15) * 4
	if header < 20 || len(p) < header+8 {
		return nil, false
	}
	udp := p[header:]
	length := int(udp[4])<<8 | int(udp[5])
	if length < 8 || length > len(udp) {
		return nil, false
	}
	return udp[8:length], true
}
