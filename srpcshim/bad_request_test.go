package srpcshim_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim"
	"github.com/hyperplane-project/hyperplane/srpcshim/gobtest"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// jsonBomb is a request of UpdateSubnets, or of ListVMs.
type jsonBomb struct{ method, request, want string }

func jsonBombs() map[string]jsonBomb {
	const subnets, list = "Hypervisor.UpdateSubnets", "Hypervisor.ListVMs"
	return map[string]jsonBomb{
		"depth":         {subnets, `{"x":` + strings.Repeat("[", 1e6) + strings.Repeat("]", 1e6) + "}", "brackets are nested more than 64 deep"},
		"never closed":  {subnets, strings.Repeat(`{"a":`, 1e6), "larger than"},
		"objects":       {subnets, `{"Add":[` + strings.Repeat("{},", 600000) + "{}]}", "too much memory"},
		"of other kind": {subnets, `{"Add":[` + strings.Repeat("0,", 900000) + "0]}", "too much memory"},
		"lists":         {list, `{"VmTagsToMatch":{"a":[` + strings.Repeat(`"",`, 600000) + `""]}}`, "too much memory"},
		"short lists":   {list, `{"VmTagsToMatch":{"a":[` + strings.Repeat(`"x",`, 200000) + `""]}}`, ""},
		"number":        {list, `{"IgnoreStateMask":` + strings.Repeat("9", 1<<20) + "}", "cannot unmarshal number"},
		"exponent":      {list, `{"IgnoreStateMask":1e999999999}`, "cannot unmarshal number"},
		"duplicates":    {list, "{" + strings.Repeat(`"Sort":false,`, 100000) + `"Sort":true}`, ""},
		"not UTF-8":     {list, "{\"OwnerUsers\":[\"\xff\"]}", "it is not UTF-8"},
		"half a pair":   {list, `{"OwnerUsers":["\ud800"]}`, ""}, // becomes U+FFFD, as with all of Go's decoders
		"NUL":           {list, "{\"Sort\":true\x00}", "invalid character"},
		"unknown":       {list, `{"NoSuch":{"a":[1,2,{"b":null}]},"Sort":true}`, ""},
		"no object":     {list, `[]`, "a JSON request is an object"},
		"all of it":     {list, "{" + strings.Repeat(" ", 2<<20) + "}", "larger than 2097152 bytes"},
	}
}

// TestBombs: what is more than it seems is refused, and the connection goes on where it is known how.
func TestBombs(t *testing.T) { // not parallel: it measures the memory
	services := answering()
	services.list = func(context.Context, *hypervisorv1.ListVMsRequest) (*hypervisorv1.ListVMsResponse, error) {
		return &hypervisorv1.ListVMsResponse{}, nil
	}
	s := serve(t, services, nil)
	call := func(name, path, method string, request []byte) string {
		c := s.dial(path, "alice", "*.*")
		if err := c.Start(method); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, err := c.Write(request)
		text := textOf(errors.Join(err, c.Status(true)))
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20+64*uint64(len(request)) {
			t.Errorf("%s: %d bytes made %d", name, len(request), took)
		}
		if d := time.Since(start); d > patience {
			t.Errorf("%s: took %v", name, d)
		}
		if !strings.Contains(text, "larger than") && !strings.Contains(text, "is an object") {
			if text == "" {
				if err := c.Receive(new(struct{ Error string })); err != nil && !strings.Contains(err.Error(), "no fields matched") {
					t.Errorf("%s: %v", name, err)
				}
			}
			if err := c.Ping(); err != nil {
				t.Errorf("%s: afterwards: %v", name, err)
			}
		}
		return text
	}
	for _, b := range gobtest.Bombs(2<<20 - 200) {
		method := map[bool]string{false: "Hypervisor.ListVMs", true: "Hypervisor.UpdateSubnets"}[b.Subnets]
		if got := call(b.Name, srpctest.SecureGob, method, b.Stream); (got == "") != b.Works || !b.Works && !strings.Contains(got, "gob: ") && !strings.Contains(got, "larger") {
			t.Errorf("%s: %q", b.Name, got)
		}
	}
	for name, b := range jsonBombs() {
		if got := call(name, srpctest.SecureJSON, b.method, []byte(b.request+"\n")); !strings.Contains(got, b.want) || (got == "") != (b.want == "") {
			t.Errorf("%s: %.200q, want %q", name, got, b.want)
		}
	}
}

// TestBombsInStreams does so with methods that have a dialogue.
func TestBombsInStreams(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), nil)
	for _, b := range gobtest.Bombs(2 << 20) {
		if b.Works {
			continue
		}
		c := s.dial(srpctest.SecureGob, "alice")
		if err := c.Start("Hypervisor.CreateVm"); err != nil {
			t.Fatal(err)
		}
		reply := new(struct{ Error string })
		_, err := c.Write(b.Stream)
		if err := errors.Join(err, c.Receive(reply)); err != nil || !strings.Contains(reply.Error, "gob: ") {
			t.Errorf("%s: %q, %v", b.Name, reply.Error, err)
		}
	}
}

type creation struct {
	ImageDataSize, UserDataSize uint64
	SecondaryVolumesData        bool
	SecondaryVolumes            []struct{ Size uint64 }
}

// TestUploads: refused uploads are taken, or the connection ends; they never become calls.
func TestUploads(t *testing.T) {
	t.Parallel()
	services := answering()
	services.stop = func(context.Context, *hypervisorv1.StopVmRequest) (*hypervisorv1.StopVmResponse, error) {
		t.Error("an upload became a call")
		return &hypervisorv1.StopVmResponse{}, nil
	}
	s := serve(t, services, func(o *srpcshim.Options) { o.Limits.Request = time.Second })
	evil := []byte(strings.Repeat("Hypervisor.StopVm\n", 10000))
	length := uint64(len(evil))
	volumes := []struct{ Size uint64 }{{math.MaxUint64}, {2}}
	for name, c := range map[string]struct {
		method  string
		request any
		body    []byte
		close   bool // after the body
		want    string
		goesOn  bool
	}{
		"taken":     {"Hypervisor.CreateVm", creation{ImageDataSize: length - 5, UserDataSize: 5}, evil, false, "not found in free pool", true},
		"overflow":  {"Hypervisor.CreateVm", creation{ImageDataSize: 5, SecondaryVolumesData: true, SecondaryVolumes: volumes}, evil, false, "more bytes than there are numbers for", false},
		"stalls":    {"Hypervisor.CreateVm", creation{ImageDataSize: length + 1}, evil, false, "not found in free pool", false},
		"huge":      {"Hypervisor.CreateVm", creation{ImageDataSize: 1 << 62}, evil, true, "not found in free pool", false},
		"user data": {"Hypervisor.ReplaceVmUserData", struct{ Size uint64 }{length}, evil, false, "no access to resource", true},
		"short":     {"Hypervisor.ReplaceVmUserData", struct{ Size uint64 }{49}, evil[:48], false, "upload: the client takes too long to send it", false},
		"closed":    {"Hypervisor.ReplaceVmUserData", struct{ Size uint64 }{49}, evil[:48], true, "upload: unexpected EOF", false},
		"no image":  {"Hypervisor.ReplaceVmUserData", struct{ Size uint64 }{math.MaxUint64}, evil, true, "no access to resource", false},
	} {
		for _, path := range []string{srpctest.SecureGob, srpctest.SecureJSON} {
			t.Run(name+path, func(t *testing.T) {
				t.Parallel()
				conn := s.dial(path, "alice")
				if err := conn.Start(c.method); err != nil {
					t.Fatal(err)
				}
				if err := conn.Send(c.request); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write(c.body); err != nil {
					t.Errorf("sending: %v", err)
				}
				if half, ok := conn.Conn.(interface{ CloseWrite() error }); c.close && (!ok || half.CloseWrite() != nil) {
					t.Error("could not end sending")
				}
				reply := new(struct{ Error string })
				if strings.Contains(c.method, "UserData") {
					if err := conn.Status(true); err != nil {
						t.Error(err)
					}
				}
				if err := conn.Receive(reply); err != nil || !strings.Contains(reply.Error, c.want) {
					t.Errorf("%q, %v; want %q", reply.Error, err, c.want)
				}
				if err := conn.Ping(); (err == nil) != c.goesOn {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
	}
}

// TestRefusedUploadTrickles: time is bounded also if something comes all the time.
func TestRefusedUploadTrickles(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), hasty)
	for _, order := range []any{creation{ImageDataSize: 1 << 40}, creation{UserDataSize: 1 << 40}} {
		c := s.dial(srpctest.SecureGob, "alice")
		if err := errors.Join(c.Start("Hypervisor.CreateVm"), c.Send(order)); err != nil {
			t.Fatal(err)
		}
		trickle(t, c, func(int) byte { return '\n' })
	}
}

// TestLargestRequestCost tells what the worst request costs that is not refused.
func TestLargestRequestCost(t *testing.T) { // not parallel: it measures the memory
	s := serve(t, answering(), nil)
	const size = 2<<20 - 300
	const n = 48000 // structs of 216 bytes
	body := gobtest.AppendUint([]byte{1}, uint64(n))
	body = append(body, make([]byte, n-1)...)
	body = append(gobtest.AppendText(append(body, 1), gobtest.Text(size-2*n)), 0, 0)
	defined := bytes.Join([][]byte{
		gobtest.Struct(65, gobtest.Field{Name: "Add", Type: 66}), gobtest.Slice(66, 67), gobtest.Struct(67, gobtest.Field{Name: "Id", Type: gobtest.String}),
	}, nil)
	c := s.dial(srpctest.SecureGob, "alice", "*.*")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if err := c.Start("Hypervisor.UpdateSubnets"); err != nil {
		t.Fatal(err)
	}
	message := append(defined, gobtest.Value(65, body)...)
	_, err := c.Write(message)
	reply := new(srpctest.ErrorReply)
	err = errors.Join(err, c.Status(true), gob.NewDecoder(c.In).Decode(reply))
	runtime.ReadMemStats(&after)
	took := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d bytes made %d, %.1f times; heap %d KiB", len(message), took, float64(took)/float64(len(message)), after.HeapInuse>>10)
	if diff := cmp.Diff(nil, err); diff != "" || took > 40*uint64(len(message)) {
		t.Error(fmt.Sprint(took), diff, reply.Error)
	}
}
