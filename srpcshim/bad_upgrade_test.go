package srpcshim_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/srpcshim"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// openFiles counts what this process has open.
func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestAbandonedUpgrades begins to move to the Unix socket and goes away at each step, with strangers at the socket. Nothing may be left.
func TestAbandonedUpgrades(t *testing.T) { // not parallel: it counts the files of the process
	s := serve(t, answering(), func(o *srpcshim.Options) { o.OpenReads = true })
	begin := func() (*srpctest.Conversation, *srpctest.UpgradeReplyOne) {
		c, err := s.try(srpctest.PlainGob, nil)
		if err != nil {
			t.Fatal(err)
		}
		call, err := c.Converse(".LocalUpgradeToUnix")
		reply := new(srpctest.UpgradeReplyOne)
		if err := errors.Join(err, call.Send(srpctest.UpgradeRequestOne{ClientCookie: []byte("8 bytes!")}), call.Receive(reply)); err != nil || reply.Error != "" {
			t.Fatal(err, reply.Error)
		}
		return call, reply
	}
	visit := func(path string, cookie []byte) net.Conn {
		conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
		if err == nil {
			_, err = conn.Write(cookie)
		}
		if err != nil {
			t.Error(err)
		}
		return conn
	}
	before := openFiles(t)
	for i := range 300 {
		call, reply := begin()
		switch i % 4 {
		case 1: // shows the cookie and says nothing more
			_ = visit(reply.SocketPathname, reply.ServerCookie).Close()
		case 2: // shows half of the cookie
			_ = visit(reply.SocketPathname, reply.ServerCookie[:3]).Close()
		case 3: // shows a wrong one, and says that it is there
			_ = visit(reply.SocketPathname, []byte("wrong!!!")).Close()
			_ = call.Send(struct{ SentServerCookie string }{"yes"})
		default:
		}
		_ = call.Close()
	}
	for end := time.Now().Add(patience); openFiles(t) > before+4; {
		if time.Now().After(end) {
			t.Fatalf("%d files are open, %d were", openFiles(t), before)
		}
		c, err := s.try(srpctest.PlainGob, nil) // the server goes on
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Ping(), c.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUpgradeAmongStrangers: as many strangers as there may be keep the client away, but not its connection.
func TestUpgradeAmongStrangers(t *testing.T) {
	t.Parallel()
	c := serve(t, answering(), nil).dial(srpctest.SecureGob, "alice")
	err := c.Upgrade(t.Context(), func(conn net.Conn, _ []byte) (bool, error) {
		for range 80 {
			stranger, err := new(net.Dialer).DialContext(t.Context(), "unix", conn.RemoteAddr().String())
			if err != nil {
				break // the server listens no more
			}
			if _, err := stranger.Write([]byte("wrong!!!")); err != nil {
				t.Logf("a stranger was not heard: %v", err)
			}
			_ = stranger.Close()
		}
		return true, conn.Close() // although it is not true
	})
	if err == nil {
		t.Fatal("moved without the cookie")
	}
	if err := c.Ping(); err != nil {
		t.Errorf("the connection is lost: %v", err)
	}
}
