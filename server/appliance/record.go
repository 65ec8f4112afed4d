package appliance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// recording is the keeping of a machine in a folder.
type recording struct {
	*Service
	m        *machine
	manifest *manifest
	// dir is the folder in which it is made, which exists.
	dir string
	// parent is the backup that it is based on; nil = none.
	parent *manifest
	// without leaves the user data out.
	withoutUserData bool
	// prepare changes the disks' files before they are measured; nil = nothing.
	prepare func(ctx context.Context, files []string) error
	tell    *teller
}

// variablesName and userDataName are files in a folder. No disk has such a name.
const (
	variablesName = "firmware-variables"
	userDataName  = "user-data"
)

func (r recording) run(ctx context.Context) error {
	c := capture{Service: r.Service, m: r.m, compress: r.manifest.Compressed, checkpoint: r.manifest.Checkpoint, tell: r.tell}
	for i, d := range r.m.disks {
		name := fmt.Sprintf("%s.qcow2", diskName(d, i))
		r.manifest.Disks = append(r.manifest.Disks, manifestDisk{part: part{File: name}, Target: diskName(d, i), Source: d.File, Format: d.Format.String()})
		c.to = append(c.to, filepath.Join(r.dir, name))
		c.formats = append(c.formats, hypervisor.DiskQCOW2)
		if r.parent != nil {
			c.since = r.parent.Checkpoint
			c.bases = append(c.bases, "../"+r.parent.Name+"/"+r.parent.Disks[i].File)
		}
	}
	if err := c.run(ctx); err != nil {
		return err
	}
	if err := r.rest(ctx, c.to); err != nil {
		return r.dropCheckpoint(ctx, err)
	}
	return nil
}

func (r recording) dropCheckpoint(ctx context.Context, err error) error {
	if r.manifest.Checkpoint == "" {
		return err
	}
	if dropErr := r.Driver.DropCheckpoint(context.WithoutCancel(ctx), r.m.uuid(), r.manifest.Checkpoint); dropErr != nil {
		return fault.Wrap(err, "and its checkpoint stays (%s)", dropErr.Error())
	}
	return err
}

// diskName names a disk in a folder; a target of the virtualiser's is a name already.
func diskName(d hypervisor.ApplianceDisk, i int) string {
	if checkName("target", d.Target) != nil {
		return fmt.Sprintf("disk%d", i)
	}
	return d.Target
}

// rest records all but the content of the disks.
func (r recording) rest(ctx context.Context, files []string) error {
	if r.prepare != nil {
		if err := r.prepare(ctx, files); err != nil {
			return err
		}
	}
	r.manifest.Definition = string(r.m.definition)
	if err := r.small(); err != nil {
		return err
	}
	for i := range r.manifest.Disks {
		d := &r.manifest.Disks[i]
		r.tell.tell("measuring disk "+d.Target, 0, 0)
		var err error
		if d.Size, err = r.diskSize(files[i], hypervisor.DiskQCOW2); err != nil {
			return err
		}
		if err := d.measure(ctx, r.dir); err != nil {
			return err
		}
		if err := syncFile(files[i]); err != nil {
			return err
		}
	}
	for _, p := range []*part{r.manifest.Variables, r.manifest.UserData} {
		if p != nil {
			if err := p.measure(ctx, r.dir); err != nil {
				return err
			}
		}
	}
	return r.manifest.write(r.dir)
}

// small keeps what is in small files, and what is known of a VM.
func (r recording) small() error {
	if r.m.layout.Variables != "" {
		r.manifest.Variables = &part{File: variablesName}
		err := copyBytes(r.m.layout.Variables, filepath.Join(r.dir, variablesName))
		if os.IsNotExist(err) { // a machine that was never started
			r.manifest.Variables, err = nil, nil
		}
		if err != nil {
			return fault.Wrap(err, "the firmware's variables")
		}
	}
	if !r.m.managed() {
		return nil
	}
	raw, err := protojson.Marshal(r.m.record.GetVmInfo())
	if err != nil {
		return fault.As(fault.Internal, err, "manifest")
	}
	r.manifest.VM = raw
	content, err := r.userData(r.m)
	if err != nil || content == nil || r.withoutUserData {
		return err
	}
	r.manifest.UserData = &part{File: userDataName}
	return fault.Wrap(os.WriteFile(filepath.Join(r.dir, userDataName), content, 0o600), "user data")
}
