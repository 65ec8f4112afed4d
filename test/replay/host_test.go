package replay_test

import (
	"context"
	"io"
	"net"
)

func hostSession() session {
	return session{steps: []step{
		play("subnet-add", "address-add", "address-add-default-mac", "address-add-errors", "address-add-no-subnet", "address-denied", "subnet-list",
			"subnet-add-denied", "subnet-errors", "subnet-add-change-delete"),
		do(func(_ context.Context, w *world) {
			w.pool("10.99.1.30", "10.99.1.31", "10.99.1.32")
		}),
		play("address-remove-ip", "address-remove-mac", "address-remove-unknown", "address-maximum-per-subnet", "address-remove-excess"),
		play("vm-list-empty", "call-ping", "call-access-denied", "call-malformed", "call-unknown-method", "call-unknown-service", "call-many-on-one-connection",
			"call-method-list", "call-methods-of-identity-ca", "call-owners", "call-owner-of-machine", "call-owners-clear"),
		play("connect-get", "connect-gob-unsecured", "connect-json-unsecured", "connect-no-certificate", "connect-no-certificate-library", "connect-no-such-path"),
		play("local-upgrade"),
		play("host-get-capacity", "host-get-identity-provider", "host-get-public-key", "host-get-root-cookie-path", "host-hold-lock-read", "host-hold-lock-write",
			"host-hold-lock-too-long", "host-hold-vm-lock-no-such-vm", "host-list-volume-directories", "host-enable-denied", "host-disable", "vm-create-disabled", "host-enable"),
		play("leases-register", "leases-register-empty", "netboot-denied", "netboot-machine", "netboot-machine-timeout", "vm-info-no-such-vm", "vm-stop-no-such-vm", "vm-start-no-such-vm", "vm-acknowledge-no-such-vm",
			"json-ping-crlf", "json-errors", "errors-no-such-vm"),
	}}
}

func hostDifferences() map[string]difference {
	return map[string]difference{
		"subnet-add-change-delete": {
			"net2 is a part of net1: ours has no two subnets with the same addresses; and the last deletion is answered instead of ending the connection",
			map[string]string{
				"UpdateSubnetsResponse.Error": "net2", "UpdateSubnetsResponse.Error#2": "net2", "ListSubnetsResponse.Subnets": "net1", "end": "no such subnet",
			},
		},
		"connect-get": {"on the host itself, GET is REST", map[string]string{"CONNECT": "404"}},
	}
}

func hostExtras() map[string]extras {
	var moved net.Conn
	var mine []byte
	return map[string]extras{"local-upgrade": {
		during: map[string]func(context.Context, *player){"localUpgradeToUnixRequestTwo#1": func(ctx context.Context, p *player) {
			path, _ := p.conns[0].answer["SocketPathname"].(string)
			cookie, _ := p.conns[0].answer["ServerCookie"].([]byte)
			mine, _ = p.conns[0].request["ClientCookie"].([]byte)
			var err error
			if moved, err = new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
				_, err = moved.Write(cookie)
			}
			if err == nil {
				_, err = io.ReadFull(moved, make([]byte, 1))
			}
			if err != nil {
				p.t.Fatal(err)
			}
		}},
		after: func(_ context.Context, p *player) {
			defer moved.Close()
			got := make([]byte, 9) // the client's cookie, and the answer to a ping
			_, err := moved.Write([]byte("\n"))
			if err == nil {
				_, err = io.ReadFull(moved, got)
			}
			if err != nil || string(got) != string(mine)+"\n" {
				p.t.Errorf("on the Unix socket: %q, %v", got, err)
			}
		},
	}}
}
