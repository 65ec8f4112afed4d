package srpcshim

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// upgradeMethod moves a connection whose two ends are on one host to a Unix socket, where nothing is encrypted: who the caller is has been proven. Stock
// clients call it first thing if both ends have the same address, and go on as they are if it is refused.
const upgradeMethod = ".LocalUpgradeToUnix"

const (
	// cookieSize is what stock ends send.
	cookieSize = 8
	// maxCookie bounds what a client may send.
	maxCookie = 64
	// upgradeTime is how long the client may take to come to the Unix socket.
	upgradeTime = 5 * time.Second
	// maxGuests bounds who may come and be somebody else.
	maxGuests = 64
)

// The messages of the exchange, in order.
type (
	upgradeRequestOne struct{ ClientCookie []byte }
	upgradeReplyOne   struct {
		Error          string
		ServerCookie   []byte
		SocketPathname string
	}
	upgradeRequestTwo struct{ SentServerCookie bool }
	upgradeReplyTwo   struct{ Error string }
)

// local says whether both ends of a connection over IP have one address.
func local(conn net.Conn) bool {
	here, err := netip.ParseAddrPort(conn.LocalAddr().String())
	there, fail := netip.ParseAddrPort(conn.RemoteAddr().String())
	return errors.Join(err, fail) == nil && here.Addr().Unmap() == there.Addr().Unmap()
}

// upgrade serves the method. The client proves on the Unix socket with our cookie that it is the one who asked, we prove with its cookie that it has reached us.
func (s *session) upgrade(ctx context.Context) error {
	if !local(s.life.conn) {
		return s.status("unknown service: ")
	}
	if err := s.status(""); err != nil {
		return err
	}
	t := s.talk(ctx, s.mux.opts.Limits.RequestBytes)
	defer t.cancel()
	one := new(upgradeRequestOne)
	if err := t.Read(one, false); err != nil {
		return err
	}
	if len(one.ClientCookie) == 0 || len(one.ClientCookie) > maxCookie {
		return t.Write(upgradeReplyOne{Error: fmt.Sprintf("ClientCookie has %d bytes; give 1 to %d", len(one.ClientCookie), maxCookie)})
	}
	meeting, err := meet()
	if err != nil {
		return errors.Join(err, t.Write(upgradeReplyOne{Error: "no Unix socket can be made"}))
	}
	conn, err := s.move(t, meeting, one.ClientCookie)
	if err != nil || conn == nil {
		return errors.Join(err, meeting.close())
	}
	return errors.Join(meeting.close(), s.continueOn(conn))
}

// move brings the client to the Unix socket. Without a connection and an error the client stays where it is.
func (s *session) move(t *talk, m *meeting, proof []byte) (net.Conn, error) {
	if err := t.Write(upgradeReplyOne{ServerCookie: m.cookie, SocketPathname: m.listener.Addr().String()}); err != nil {
		return nil, err
	}
	arrived := make(chan net.Conn, 1)
	go func() { arrived <- m.await() }()
	two := new(upgradeRequestTwo)
	err := t.Read(two, false)
	if (err != nil || !two.SentServerCookie) && !m.recognised.CompareAndSwap(false, true) {
		err = errors.Join(err, closed(<-arrived))
	}
	if err != nil || !two.SentServerCookie { // to a client that did not come nothing is replied
		return nil, err
	}
	conn := <-arrived
	if conn == nil {
		return nil, t.Write(upgradeReplyTwo{Error: "nobody came to the Unix socket with the cookie"})
	}
	if err := t.Write(upgradeReplyTwo{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if _, err := conn.Write(proof); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func closed(conn net.Conn) error {
	if conn == nil {
		return nil
	}
	return conn.Close()
}

// continueOn goes on with the next call on another connection, and closes the one so far.
func (s *session) continueOn(conn net.Conn) error {
	before := s.conn
	s.conn, s.below, s.in = conn, nil, bufio.NewReaderSize(conn, lineSize)
	s.owed = false
	if !s.life.move(conn) {
		return fault.New(fault.Unavailable, "the server ends")
	}
	_ = before.Close() // the client has left it
	return nil
}

// meeting is a Unix socket that waits for one client.
type meeting struct {
	listener   *net.UnixListener
	cookie     []byte
	recognised atomic.Bool
}

// meet opens one in the abstract namespace (unix(7)), under a name that nobody can have taken before.
func meet() (*meeting, error) {
	secret := make([]byte, 2*cookieSize)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("@SRPC.%d.%s", os.Getpid(), hex.EncodeToString(secret[cookieSize:]))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &meeting{listener: l, cookie: secret[:cookieSize]}, nil
}

// await returns the client's connection, after it has shown the cookie and has been told that it is the right one; nil if it does not come. It ends the
// listening. Others who come can not hold it up.
func (m *meeting) await() net.Conn {
	end := time.Now().Add(upgradeTime)
	if m.listener.SetDeadline(end) != nil {
		return nil
	}
	arrived := make(chan net.Conn, 1)
	go func() {
		defer close(arrived)
		var guests sync.WaitGroup
		defer guests.Wait()
		for range maxGuests {
			conn, err := m.listener.AcceptUnix()
			if err != nil {
				return
			}
			guests.Go(func() {
				if m.recognise(conn, end) != nil {
					_ = conn.Close() // somebody else
					return
				}
				arrived <- conn
			})
		}
	}()
	conn := <-arrived
	_ = m.listener.Close() // by now nobody else is wanted
	return conn
}

func (m *meeting) recognise(conn net.Conn, end time.Time) error {
	shown := make([]byte, len(m.cookie))
	if err := conn.SetDeadline(end); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, shown); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(shown, m.cookie) != 1 || !m.recognised.CompareAndSwap(false, true) {
		return fault.New(fault.PermissionDenied, "wrong cookie")
	}
	if _, err := conn.Write([]byte{0}); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

func (m *meeting) close() error {
	if err := m.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
