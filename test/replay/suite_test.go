package replay_test

import (
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// people are the certificates of those who are in recordings, and the CAs that the server believes.
type people struct {
	certs map[string]tls.Certificate
	// full is believed for names and methods, names for names only.
	full, names string
}

func newPeople(t *testing.T) *people {
	t.Helper()
	full, names := srpctest.NewAuthority(t, "full"), srpctest.NewAuthority(t, "names only")
	p := &people{certs: map[string]tls.Certificate{
		"admin":  full.Client("admin", nil, []string{"*.*"}),
		"alice":  full.Client("alice", []string{"team-a"}, nil),
		"bob":    full.Client("bob", []string{"team-b"}, nil),
		"carol":  names.Client("carol", []string{"team-a"}, nil),
		"dave":   names.Client("dave", nil, []string{"*.*"}),
		"reader": full.Client("reader", nil, []string{"Hypervisor.List*", "Hypervisor.Get*"}),
		"fleet-manager": full.Client("fleet-manager", nil, []string{
			"Hypervisor.ChangeAddressPool", "Hypervisor.ChangeOwners", "Hypervisor.GetUpdates", "Hypervisor.UpdateSubnets",
		}),
		"hypervisor": full.Client("hypervisor", nil, []string{"Hypervisor.*"}),
	}}
	dir := t.TempDir()
	for path, a := range map[*string]*srpctest.Authority{&p.full: full, &p.names: names} {
		*path = filepath.Join(dir, fmt.Sprintf("%p.pem", a))
		if err := os.WriteFile(*path, a.PEM(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// suite is what all sessions share.
type suite struct {
	t           *testing.T
	dir         string
	people      *people
	boot, other []byte
	bulk        map[string][]byte
	outcomes    outcomes
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	s := &suite{t: t, dir: srpctest.Recordings(t, filepath.Join("..", "..")), people: newPeople(t)}
	text, err := os.ReadFile(filepath.Join(s.dir, "boot-sector.hex"))
	if err != nil {
		t.Fatal(err)
	}
	sector, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	s.boot = append(sector, make([]byte, 512<<10-len(sector))...)
	s.other = append([]byte(nil), s.boot[:2048]...)
	for i := 512; i < 1024; i++ {
		s.other[i] = 0xa5
	}
	var lines strings.Builder
	for i := range 1400 {
		fmt.Fprintf(&lines, "line %06d of the user data\n", i)
	}
	var digests []byte
	for at := 0; at < len(s.boot); at += 512 {
		sum := sha512.Sum512(s.boot[at : at+512])
		digests = append(digests, sum[:]...)
	}
	zeros := make([]byte, 48<<20)
	s.bulk = srpctest.Payloads(s.boot, []byte(lines.String()), digests, zeros[:12<<20], zeros[:16<<20], zeros[:24<<20], zeros[:32<<20], zeros)
	s.bulk["0e7db0d4ad0a3b83d343a88d5991fc5024f7a9ec21c1d0e5f15261ebc3fd587e"] = emptyQcow2()
	return s
}

// emptyQcow2 is an image of 1 MiB in the format, as long as the one of the recordings, which cannot be made again.
func emptyQcow2() []byte {
	const cluster = 64 << 10
	image := make([]byte, 3*cluster+8)
	put := binary.BigEndian
	copy(image, "QFI\xfb")
	put.PutUint32(image[4:], 3)
	put.PutUint32(image[20:], 16)        // bits of a cluster
	put.PutUint64(image[24:], 1<<20)     // size
	put.PutUint32(image[36:], 1)         // entries of the first level
	put.PutUint64(image[40:], 3*cluster) // where they are
	put.PutUint64(image[48:], cluster)   // table of reference counts
	put.PutUint32(image[56:], 1)         // its clusters
	put.PutUint32(image[96:], 4)         // 16 bits a count
	put.PutUint32(image[100:], 104)      // length of the header
	put.PutUint64(image[cluster:], 2*cluster)
	for i := range 4 {
		put.PutUint16(image[2*cluster+2*i:], 1)
	}
	return image
}
