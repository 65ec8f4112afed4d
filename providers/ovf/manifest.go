package ovf

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Digest is the digest of one file of a package.
type Digest struct {
	Name string
	Sum  []byte
}

// hashSize is the size in bytes of the digests of a hash that a manifest may use, or 0. Some importers refuse SHA-1, some know nothing else.
func hashSize(hash string) int {
	switch hash {
	case "SHA1":
		return 20
	case "SHA256":
		return 32
	case "SHA512":
		return 64
	default:
		return 0
	}
}

// WriteManifest writes a manifest (.mf): one line "SHA256(name)= hex" per file, in the order given, with no blank before the parenthesis,
// which some importers refuse. hash is SHA1, SHA256 or SHA512. The descriptor must be the first file: importers check it before they read
// on. Names must be what SafeName gives.
func WriteManifest(w io.Writer, hash string, files []Digest) error {
	size := hashSize(hash)
	if size == 0 {
		return fault.New(fault.InvalidArgument, "manifest: hash %q is not supported; use SHA1, SHA256 or SHA512", hash)
	}
	if len(files) == 0 || !strings.HasSuffix(files[0].Name, ".ovf") {
		return fault.New(fault.InvalidArgument, "manifest: the first file must be the .ovf descriptor")
	}
	var b strings.Builder
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		switch {
		case f.Name != SafeName(f.Name):
			return fault.New(fault.InvalidArgument, "manifest: %q is not a safe file name", f.Name)
		case seen[f.Name]:
			return fault.New(fault.InvalidArgument, "manifest: %q is listed twice", f.Name)
		case len(f.Sum) != size:
			return fault.New(fault.InvalidArgument, "manifest: %q has a digest of %d bytes, %s has %d", f.Name, len(f.Sum), hash, size)
		}
		seen[f.Name] = true
		fmt.Fprintf(&b, "%s(%s)= %s\n", hash, f.Name, hex.EncodeToString(f.Sum))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
