package transfer

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // some importers take no other manifest
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/ovf"
)

// describe writes the OVF and its manifest beside the disks, if they are wanted, and the SHA-256 of every file into the result.
func (r *run) describe(ctx context.Context, result *Result) error {
	if r.plan.ManifestHash == "" {
		return nil
	}
	name := safeName(result.VM.Name) + ".ovf"
	var descriptor bytes.Buffer
	files := make([]ovf.File, 0, len(result.Files))
	for _, f := range result.Files {
		files = append(files, ovf.File{DiskID: f.DiskID, Name: f.Name, Size: f.Size, Format: formatURI(f.Format)})
	}
	if err := ovf.Write(&descriptor, result.VM, files); err != nil {
		return err
	}
	ovfFile, err := r.write(name, "ovf", descriptor.Bytes())
	if err != nil {
		return err
	}
	result.OVF = filepath.Join(r.state.Stage, name)
	all := append([]File{ovfFile}, result.Files...)
	digests := make([]ovf.Digest, len(all))
	for i := range all {
		if digests[i], err = r.digest(ctx, &all[i]); err != nil {
			return err
		}
	}
	var manifest bytes.Buffer
	if err := ovf.WriteManifest(&manifest, strings.ToUpper(r.plan.ManifestHash), digests); err != nil {
		return err
	}
	mf, err := r.write(strings.TrimSuffix(name, ".ovf")+".mf", "mf", manifest.Bytes())
	result.Files = append(all, mf)
	return err
}

func formatURI(format string) string {
	switch format {
	case "vmdk":
		return ovf.FormatStreamVMDK
	case "qcow2":
		return ovf.FormatQCOW2
	case "vhd":
		return ovf.FormatVHD
	case "vhdx":
		return ovf.FormatVHDX
	case "vdi":
		return ovf.FormatVDI
	default:
		return ovf.FormatRaw
	}
}

// write makes a small file in the staging folder.
func (r *run) write(name, format string, content []byte) (File, error) {
	sum := sha256.Sum256(content)
	f := File{Name: name, Format: format, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
	path := filepath.Join(r.state.Stage, name)
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return f, fault.Wrap(err, "output")
	}
	_, err = out.Write(content)
	if err == nil {
		err = out.Sync()
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	return f, fault.Wrap(err, "output %s", path)
}

// digest reads a file once for its SHA-256 and its digest in the manifest.
func (r *run) digest(ctx context.Context, f *File) (ovf.Digest, error) {
	own := sha256.New()
	listed, w := own, io.Writer(own)
	switch r.plan.ManifestHash {
	case "sha1":
		listed = sha1.New() //nolint:gosec // as above
		w = io.MultiWriter(own, listed)
	case "sha512":
		listed = sha512.New()
		w = io.MultiWriter(own, listed)
	}
	path := filepath.Join(r.state.Stage, f.Name)
	if err := hashFile(ctx, path, w); err != nil {
		return ovf.Digest{}, fault.Wrap(err, "output %s", path)
	}
	f.SHA256 = hex.EncodeToString(own.Sum(nil))
	return ovf.Digest{Name: f.Name, Sum: listed.Sum(nil)}, nil
}

func hashFile(ctx context.Context, path string, w io.Writer) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.Read(buf)
		_, _ = w.Write(buf[:n]) // a hash never fails
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// renameFolder renames without replacing: what appeared there meanwhile stays.
func renameFolder(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err == unix.EEXIST {
		return fault.New(fault.AlreadyExists, "output %s: appeared while the export ran; remove it or choose another folder", to)
	}
	if err != nil {
		return fault.Wrap(err, "output %s", to)
	}
	if err := os.Chmod(to, 0o755); err != nil { //nolint:gosec // a folder of exports is meant to be read; the files in it are 0600
		return fault.Wrap(err, "output %s", to)
	}
	return syncFolder(filepath.Dir(to))
}

// syncFolder makes a rename permanent.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fault.Wrap(err, "output folder")
	}
	defer dir.Close() //nolint:errcheck // only read
	return fault.Wrap(dir.Sync(), "output folder %s", path)
}

// maxStem leaves room for what is appended to a VM's name: a disk's number and an extension.
const maxStem = 160

// safeName makes the stem of file names of a VM's name.
func safeName(name string) string {
	stem := ovf.SafeName(name)
	if len(stem) <= maxStem {
		return stem
	}
	cut := maxStem
	for !utf8.RuneStart(stem[cut]) {
		cut--
	}
	return ovf.SafeName(stem[:cut])
}
