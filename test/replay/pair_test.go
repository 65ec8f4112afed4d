package replay_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// newSecond starts the server that VMs go to. It shows the certificate that hypervisors have in the recordings.
func newSecond(t *testing.T, w *world) *world {
	t.Helper()
	cert, dir := w.people.certs["hypervisor"], t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	w.write(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	w.write(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	second := newWorld(t, w.suite, func(c *config.Config) {
		c.Peers = config.Peers{
			CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), CAFile: filepath.Join(w.Config.StateDir, "pki", "ca.pem"),
		}
	})
	w.texts = append(w.texts, [2]string{"10.99.0.1:6976", w.Addr}, [2]string{"10.99.0.77:6976", "127.0.0.1:1"}, [2]string{"10.99.0.2:6976", second.Addr})
	return second
}

// pairSession has VMs that go to another server.
func pairSession() session {
	return session{pair: true, steps: []step{
		do(surroundings),
		do(sources),
		do(func(ctx context.Context, w *world) {
			second := w.second.in(w.t)
			second.subnets(ctx)
			second.pool("10.99.9.1", "10.99.9.2", "10.99.9.3", "10.99.9.4")
		}),
		play("copy-source-info", "copy-stopped", "copy-destination-info", "copy-running", "copy-not-owner", "copy-bad-token", "copy-by-non-owner-wrong-token",
			"migrate-no-such-vm", "migrate-stopped-commit", "migrate-source-info", "migrate-destination-info", "migrate-running-abandon", "migrate-running-commit"),
	}}
}

// sourceSession has VMs that stock servers take: they are the clients then, with what they said to the source.
func sourceSession() session {
	return session{steps: []step{
		do(surroundings), do(sources), taken("copy-stopped", "copy-running", "copy-bad-token", "copy-by-non-owner-wrong-token", "migrate-stopped-commit", "migrate-running-abandon", "migrate-running-commit"),
	}}
}

// taken plays recordings without what was said to the second server.
func taken(names ...string) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				second := func(c srpctest.ScriptConn) bool { return c.Server == "second" }
				judge(t, "source of "+name, w.learning(t, name, extras{ours: second}))
			})
		}
	}
}

// sources makes the VMs that go to another server.
func sources(ctx context.Context, w *world) {
	w.create(ctx, "10.99.1.20", "src1", func(s *hypervisorv1.CreateVmSpec) {
		s.ImageDataSize, s.SecondaryVolumes = 512<<10, []*hypervisorv1.Volume{{Size: 16 << 20}}
		s.VmInfo.Tags["env"] = "test"
	})
	w.create(ctx, "10.99.1.21", "src2", func(s *hypervisorv1.CreateVmSpec) { s.ImageDataSize, s.DoNotStart = 512<<10, false })
	w.create(ctx, "10.99.1.11", "url1", func(s *hypervisorv1.CreateVmSpec) { s.ImageDataSize, s.VmInfo.ImageUrl = 0, w.images.URL+"/boot2k.img" })
	w.userData(ctx, "10.99.1.20")
}

// userData gives a VM the user data that most recordings have.
func (w *world) userData(ctx context.Context, vm string) {
	w.t.Helper()
	var data []byte
	for _, s := range srpctest.ReadScript(w.t, filepath.Join(w.suite.dir, "userdata-get.jsonl"), nil).Steps {
		if s.Kind == "payload" {
			data = s.Data
		}
	}
	stream, err := hypervisorv1.NewUserDataServiceClient(w.Dial(true)).ReplaceVmUserData(ctx)
	if err == nil {
		err = stream.Send(&hypervisorv1.ReplaceVmUserDataRequest{Vm: vm, Size: uint64(len(data)), Data: data})
	}
	if err == nil {
		_, err = stream.CloseAndRecv()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// byHypervisor says that a server makes a connection.
func byHypervisor(c srpctest.ScriptConn) bool { return c.Identity == "hypervisor" }

func pairExtras() map[string]extras {
	all := make(map[string]extras)
	for _, name := range []string{
		"copy-stopped", "copy-running", "copy-bad-token", "copy-by-non-owner-wrong-token", "migrate-stopped-commit", "migrate-running-abandon", "migrate-running-commit",
	} {
		all[name] = extras{ours: byHypervisor}
	}
	return all
}
