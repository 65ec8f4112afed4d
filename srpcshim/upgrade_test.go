package srpcshim_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// TestLocalUpgrade moves connections to the Unix socket. The caller stays who he is.
func TestLocalUpgrade(t *testing.T) {
	t.Parallel()
	for _, path := range []string{srpctest.SecureGob, srpctest.SecureJSON} {
		c := serve(t, answering(), nil).dial(path, "alice", "Hypervisor.SetDisabledState")
		if err := c.Ping(); err != nil {
			t.Fatal(err)
		}
		if err := c.Upgrade(t.Context(), nil); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		t.Cleanup(func() { _ = c.Close() }) // nobody else knows of the Unix socket
		if network := c.RemoteAddr().Network(); network != "unix" {
			t.Errorf("%s: on %s", path, network)
		}
		request := any(srpctest.VMRequest{IpAddress: ip("10.0.0.1")})
		reply := any(new(srpctest.GetVmInfoReply))
		if path == srpctest.SecureJSON {
			request, reply = map[string]string{"IpAddress": "10.0.0.1"}, new(map[string]any)
		}
		for range 3 {
			if err := c.Call("Hypervisor.GetVmInfo", request, reply); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		if err := c.Start("Hypervisor.PowerOff"); textOf(err) != "access to method denied" {
			t.Errorf("%s: a method without power: %v", path, err)
		}
		if err := c.Start("Hypervisor.SetDisabledState"); err != nil {
			t.Errorf("%s: a method with power: %v", path, err)
		}
	}
}

// TestLocalUpgradeRefused leaves connections where they are.
func TestLocalUpgradeRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), nil)
	elsewhere := serveOn(t, "127.0.0.2", answering(), nil) // clients come from 127.0.0.1
	for name, attempt := range map[string]func() (*srpctest.Client, string){
		"another address": func() (*srpctest.Client, string) {
			c := elsewhere.dial(srpctest.SecureGob, "alice")
			return c, textOf(c.Upgrade(t.Context(), nil))
		},
		"not arrived": func() (*srpctest.Client, string) {
			c := s.dial(srpctest.SecureGob, "alice")
			return c, textOf(c.Upgrade(t.Context(), func(net.Conn, []byte) (bool, error) { return false, nil }))
		},
		"no cookie": func() (*srpctest.Client, string) {
			c := s.dial(srpctest.SecureGob, "alice")
			call, err := c.Converse(".LocalUpgradeToUnix")
			if err != nil {
				t.Fatal(err)
			}
			reply := new(srpctest.UpgradeReplyOne)
			if err := errors.Join(call.Send(srpctest.UpgradeRequestOne{ClientCookie: make([]byte, 100)}), call.Receive(reply)); err != nil {
				t.Fatal(err)
			}
			return c, reply.Error
		},
	} {
		c, text := attempt()
		want := map[string]string{
			"another address": "unknown service: ", "not arrived": "other error: not there", "no cookie": "ClientCookie has 100 bytes; give 1 to 64",
		}[name]
		if diff := cmp.Diff(want, text); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if err := c.Ping(); err != nil {
			t.Errorf("%s: the connection can not be used any more: %v", name, err)
		}
	}
}

// TestLocalUpgradeByStrangers lets somebody without the cookie come first.
func TestLocalUpgradeByStrangers(t *testing.T) {
	t.Parallel()
	c := serve(t, answering(), nil).dial(srpctest.SecureGob, "alice")
	err := c.Upgrade(t.Context(), func(conn net.Conn, cookie []byte) (bool, error) {
		stranger, err := new(net.Dialer).DialContext(t.Context(), "unix", conn.RemoteAddr().String())
		if err != nil {
			return false, err
		}
		if _, err := stranger.Write(bytes.Repeat([]byte{7}, len(cookie))); err != nil {
			return false, err
		}
		if _, err := conn.Write(cookie); err != nil {
			return false, err
		}
		if n, err := stranger.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("the stranger was told %d bytes", n)
		}
		_, err = io.ReadFull(conn, make([]byte, 1))
		return true, errors.Join(err, stranger.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(); err != nil {
		t.Error(err)
	}
}

// TestServersEndAfterUpgrade ends a connection that rests on the Unix socket.
func TestServersEndAfterUpgrade(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), nil)
	c := s.dial(srpctest.SecureGob, "alice")
	if err := c.Upgrade(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.end()
	if err := c.Ping(); err == nil {
		t.Error("the server answers after its end")
	}
}

// TestLocalUpgradeRecorded says what a stock client said.
func TestLocalUpgradeRecorded(t *testing.T) {
	t.Parallel()
	r := srpctest.ReadRecording(t, filepath.Join(srpctest.Recordings(t, ".."), "local-upgrade.jsonl"))
	c := serve(t, answering(), nil).dial(r.Connections[0].Path, r.Identity)
	var cookie []byte
	var conn net.Conn
	replies := map[string]func(){
		"localUpgradeToUnixResponseOne": func() {
			one := new(srpctest.UpgradeReplyOne)
			if err := c.Receive(one); err != nil || one.Error != "" {
				t.Fatalf("%+v, %v", one, err)
			}
			var err error
			if conn, err = new(net.Dialer).DialContext(t.Context(), "unix", one.SocketPathname); err != nil {
				t.Fatal(err)
			}
			if _, err = conn.Write(one.ServerCookie); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		},
		"localUpgradeToUnixResponseTwo": func() {
			if two := new(srpctest.UpgradeReplyTwo); c.Receive(two) != nil || two.Error != "" {
				t.Fatalf("%+v", two)
			}
		},
	}
	for _, line := range r.Lines {
		if line.FromClient() {
			if _, err := c.Write(line.Data); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range line.Decoded {
			if request, ok := p.Value.(map[string]any); ok && request["ClientCookie"] != nil {
				cookie, _ = base64.StdEncoding.DecodeString(request["ClientCookie"].(string))
			}
			if hear := replies[p.Type]; hear != nil {
				hear()
			} else if p.Kind == "status" {
				if err := c.Status(false); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	back := make([]byte, len(cookie))
	if _, err := io.ReadFull(conn, back); err != nil || len(back) == 0 || !bytes.Equal(back, cookie) {
		t.Fatalf("%x, %v; the client's cookie is %x", back, err, cookie)
	}
	if _, err := io.WriteString(conn, "\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("ping on the Unix socket: %v", err)
	}
}
