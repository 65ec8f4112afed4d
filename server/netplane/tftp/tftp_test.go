package tftp

import (
	"strings"
	"testing"
)

func TestRequests(t *testing.T) {
	t.Parallel()
	r, err := parseRequest([]byte("\x00\x01/dir/file\x00OCTET\x00BLKSIZE\x001400\x00tsize\x000\x00"))
	if err != nil || r.name != "dir/file" || r.write || r.options["blksize"] != "1400" || r.options["tsize"] != "0" {
		t.Errorf("request: %+v, %v", r, err)
	}
	for name, raw := range map[string]string{
		"empty": "", "an acknowledgement": "\x00\x04\x00\x01", "no name": "\x00\x01\x00octet\x00", "no mode": "\x00\x01name\x00",
		"mail": "\x00\x01name\x00mail\x00", "not ended": "\x00\x01name\x00octet",
	} {
		if r, err := parseRequest([]byte(raw)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte("\x00\x01file\x00octet\x00blksize\x001400\x00timeout\x003\x00tsize\x000\x00"))
	f.Add([]byte("\x00\x02file\x00netascii\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseRequest(raw)
		if err != nil {
			return
		}
		if r.name != strings.TrimLeft(r.name, "/") {
			t.Errorf("name %q", r.name)
		}
		tr := &transfer{blockSize: defaultBlock, timeout: defaultTimeout}
		tr.agree(r.options, 1000)
		if tr.blockSize < minBlock || tr.blockSize > maxBlock || tr.timeout <= 0 {
			t.Errorf("agreed on %+v", tr)
		}
	})
}
