package srpcshim_test

import (
	"testing"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// BenchmarkGetVmInfo is one call after the other on one connection over TLS, client included.
func BenchmarkGetVmInfo(b *testing.B) {
	for path, request := range map[string]any{
		srpctest.SecureGob: srpctest.VMRequest{IpAddress: ip("10.0.0.1")}, srpctest.SecureJSON: map[string]string{"IpAddress": "10.0.0.1"},
	} {
		b.Run(path[1:], func(b *testing.B) {
			c := serve(b, answering(), nil).dial(path, "alice")
			b.ReportAllocs()
			for b.Loop() {
				var reply any = new(srpctest.GetVmInfoReply)
				if path == srpctest.SecureJSON {
					reply = new(map[string]any)
				}
				if err := c.Call("Hypervisor.GetVmInfo", request, reply); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
