package srpctest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
)

// The messages of .LocalUpgradeToUnix, in order.
type (
	// UpgradeRequestOne begins.
	UpgradeRequestOne struct{ ClientCookie []byte }
	// UpgradeReplyOne says where to come, and what to show there.
	UpgradeReplyOne struct {
		Error          string
		ServerCookie   []byte
		SocketPathname string
	}
	// UpgradeRequestTwo says that the client is there.
	UpgradeRequestTwo struct{ SentServerCookie bool }
	// UpgradeReplyTwo agrees.
	UpgradeReplyTwo struct{ Error string }
)

// Upgrade moves the connection to a Unix socket. visit is called with that before the client says that it is there; nil = the cookie is shown.
func (c *Client) Upgrade(ctx context.Context, visit func(conn net.Conn, cookie []byte) (arrived bool, err error)) error {
	if visit == nil {
		visit = func(conn net.Conn, cookie []byte) (bool, error) {
			if _, err := conn.Write(cookie); err != nil {
				return false, err
			}
			_, err := io.ReadFull(conn, make([]byte, 1))
			return true, err
		}
	}
	call, err := c.Converse(".LocalUpgradeToUnix")
	if err != nil {
		return err
	}
	mine, one, two := []byte("8 bytes!"), new(UpgradeReplyOne), new(UpgradeReplyTwo)
	if err := errors.Join(call.Send(UpgradeRequestOne{mine}), call.Receive(one)); err != nil || one.Error != "" {
		return errors.Join(err, fmt.Errorf("reply one: %q", one.Error))
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", one.SocketPathname)
	if err != nil {
		return err
	}
	arrived, err := visit(conn, one.ServerCookie)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	if !arrived {
		return errors.Join(call.Send(UpgradeRequestTwo{}), conn.Close(), errors.New("not there"))
	}
	if err := errors.Join(call.Send(UpgradeRequestTwo{true}), call.Receive(two)); err != nil || two.Error != "" {
		return errors.Join(err, fmt.Errorf("reply two: %q", two.Error), conn.Close())
	}
	back := make([]byte, len(mine))
	if _, err := io.ReadFull(conn, back); err != nil || !bytes.Equal(back, mine) {
		return errors.Join(err, fmt.Errorf("the server showed %q for the client's cookie", back), conn.Close())
	}
	_ = c.Close() // the server does the same at the same time
	c.Conn, c.In = conn, bufio.NewReader(conn)
	return nil
}
