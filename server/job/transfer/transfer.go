// Package transfer moves the disks of one VM from a provider into files: a consistent view at the source, each disk through the converter into
// a staging folder, an OVF with its manifest, and one rename at the end. It is the work behind an export job and behind the exporter that needs
// no daemon; it knows neither jobs nor the API.
package transfer

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// Plan is what to do.
type Plan struct {
	// VM is the VM's path, name or key at the source.
	VM string
	// Formats are the disk formats there are.
	Formats converters.Formats
	// Format is qcow2, raw or vmdk; Compress compresses the disks where the format can.
	Format   string
	Compress bool
	Quiesce  bool
	// NoContentHash leaves the SHA-256 of the disks' content out; what the source sends is compared with its digests all the same.
	NoContentHash bool
	// Parallel is how many disks are read at once; at least 1.
	Parallel int
	// Folder returns the folder that the files end in, given the VM. It must not exist. The work is done in a hidden folder beside it.
	Folder func(driver.VM) (string, error)
	// ManifestHash asks for a descriptor and its manifest with this hash ("sha1", "sha256", "sha512"); empty = none.
	ManifestHash string
	// ID names this work: in the staging folder and in the snapshot at the source.
	ID string
	// Attempts is how often a disk is begun before the work fails; at least 1.
	Attempts int
}

// Hooks connect the work to its surroundings. All are required.
type Hooks struct {
	Log func(level slog.Level, format string, args ...any)
	// Progress is called at most ten times a second, from any goroutine.
	Progress func(Progress)
	// Load reads what an earlier run of this work saved; false if there is nothing. Save keeps it.
	Load func(ctx context.Context, s *State) (bool, error)
	Save func(ctx context.Context, s State) error
	// Publish is called when all files are complete in the staging folder. It returns the folder they are in afterwards. Nil = rename.
	Publish func(ctx context.Context, r *Result) error
	// Keep says, when ctx has ended, that a later run goes on from what there is; otherwise everything is removed.
	Keep func(ctx context.Context) bool
	Now  func() time.Time
}

// State is what a later run of the same work needs. It holds no secret.
type State struct {
	// Token finds the view at the source again.
	Token []byte `json:"token,omitempty"`
	// Stage is the staging folder, Folder the final one.
	Stage  string `json:"stage,omitempty"`
	Folder string `json:"folder,omitempty"`
	// Disks are the complete ones, by id.
	Disks map[string]File `json:"disks,omitempty"`
	// Publishing says that all files are complete; only the rename and the end of the view may be missing.
	Publishing bool    `json:"publishing,omitempty"`
	Result     *Result `json:"result,omitempty"`
}

// File is a file that was made.
type File struct {
	// Name is the name in the folder.
	Name string `json:"name"`
	Size int64  `json:"size"`
	// SHA256 is that of the file, ContentSHA256 that of the disk's content. Hex.
	SHA256        string   `json:"sha256,omitempty"`
	ContentSHA256 string   `json:"content_sha256,omitempty"`
	Format        string   `json:"format"`
	Verified      []string `json:"verified,omitempty"`
	DiskID        string   `json:"disk_id,omitempty"`
	Capacity      int64    `json:"capacity,omitempty"`
}

// Result is what was made.
type Result struct {
	VM     driver.VM `json:"vm"`
	Folder string    `json:"folder"`
	// OVF is the descriptor's path, empty if none was asked for.
	OVF    string `json:"ovf,omitempty"`
	Files  []File `json:"files"`
	Method string `json:"method"`
}

// Disks returns the disks' files in the VM's order.
func (r *Result) Disks() []File {
	var disks []File
	for _, f := range r.Files {
		if f.DiskID != "" {
			disks = append(disks, f)
		}
	}
	return disks
}

// Path returns the path of a file.
func (r *Result) Path(f File) string { return filepath.Join(r.Folder, f.Name) }

// Run does the work, or goes on with it from what an earlier run saved. On failure nothing is left: no snapshot or lease at the source, no
// file here. If ctx ends and Hooks.Keep says so, what is there is kept for a later run.
func Run(ctx context.Context, src driver.Driver, p Plan, h Hooks) (*Result, error) {
	r := &run{plan: p, hooks: h, source: src}
	if _, err := h.Load(ctx, &r.state); err != nil {
		return nil, err
	}
	result, err := r.do(ctx)
	if err == nil {
		return result, nil
	}
	if ctx.Err() != nil && h.Keep(ctx) {
		return nil, errors.Join(err, r.release(ctx, false, true))
	}
	return nil, errors.Join(err, r.release(ctx, false, false), r.removeStage())
}

// Abandon removes what an earlier run left here, for a work that can not go on because its source can not be reached. What is left at the
// source can not be removed then; the log says so.
func Abandon(ctx context.Context, p Plan, h Hooks) error {
	r := &run{plan: p, hooks: h}
	if found, err := h.Load(ctx, &r.state); err != nil || !found {
		return err
	}
	if len(r.state.Token) > 0 {
		h.Log(slog.LevelWarn, "the source can not be reached: a snapshot named hyperplane-%s may be left there", p.ID)
	}
	return r.removeStage()
}

// run is one run of the work.
type run struct {
	plan   Plan
	hooks  Hooks
	source driver.Driver
	state  State
	view   driver.View
}

func (r *run) do(ctx context.Context) (*Result, error) {
	if r.state.Publishing {
		return r.publish(ctx)
	}
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	vm := r.view.VM()
	if err := r.prepareFolders(ctx, vm); err != nil {
		return nil, err
	}
	files, err := r.disks(ctx, vm)
	if err != nil {
		return nil, err
	}
	result := &Result{VM: vm, Folder: r.state.Stage, Files: files, Method: method(vm)}
	if err := r.describe(ctx, result); err != nil {
		return nil, err
	}
	if err := r.release(ctx, true, false); err != nil {
		return nil, err
	}
	r.state.Publishing, r.state.Result = true, result
	if err := r.hooks.Save(ctx, r.state); err != nil {
		return nil, err
	}
	return r.publish(ctx)
}

// open makes the view, or finds that of an earlier run.
func (r *run) open(ctx context.Context) error {
	view, err := r.source.Open(ctx, r.plan.VM, driver.OpenOptions{
		Resume: r.state.Token, SnapshotName: "hyperplane-" + r.plan.ID, Quiesce: r.plan.Quiesce,
		Note: func(format string, args ...any) { r.hooks.Log(slog.LevelInfo, format, args...) },
		Created: func(token []byte) error {
			r.state.Token = token
			return r.hooks.Save(ctx, r.state)
		},
	})
	if err != nil {
		return err
	}
	r.view = view
	if len(r.state.Disks) > 0 && !view.Resumed() {
		r.hooks.Log(slog.LevelWarn, "the state that was being exported is no longer at the source; all disks are read again")
		if err := r.removeStage(); err != nil {
			return err
		}
		r.state.Disks, r.state.Stage = nil, ""
	}
	r.state.Token = view.Token()
	return r.hooks.Save(ctx, r.state)
}

// prepareFolders decides on the folders and makes the staging one.
func (r *run) prepareFolders(ctx context.Context, vm driver.VM) error {
	if r.state.Stage == "" {
		folder, err := r.plan.Folder(vm)
		if err != nil {
			return err
		}
		r.state.Folder = folder
		r.state.Stage = filepath.Join(filepath.Dir(folder), "."+filepath.Base(folder)+".partial-"+r.plan.ID)
	}
	if err := absent(r.state.Folder); err != nil {
		return err
	}
	// The note comes first: a folder that is not noted would be left behind by a crash.
	if err := r.hooks.Save(ctx, r.state); err != nil {
		return err
	}
	if err := os.MkdirAll(r.state.Stage, 0o700); err != nil {
		return fault.Wrap(err, "output folder")
	}
	return nil
}

func absent(folder string) error {
	if _, err := os.Lstat(folder); err == nil {
		return fault.New(fault.AlreadyExists, "output %s: exists already; remove it or choose another folder", folder)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fault.Wrap(err, "output %s", folder)
	}
	return nil
}

// publish gives the files their final place.
func (r *run) publish(ctx context.Context) (*Result, error) {
	result := r.state.Result
	if r.hooks.Publish != nil {
		if err := r.hooks.Publish(ctx, result); err != nil {
			return nil, err
		}
		return result, r.removeStage()
	}
	_, err := os.Lstat(r.state.Stage)
	switch {
	case err == nil:
		if err := renameFolder(r.state.Stage, r.state.Folder); err != nil {
			return nil, err
		}
	case errors.Is(err, os.ErrNotExist):
		// An earlier run renamed it and could not say so any more.
		if _, err := os.Lstat(r.state.Folder); err != nil {
			return nil, fault.As(fault.DataLoss, err, "output %s: has gone since an earlier run made it", r.state.Folder)
		}
	default:
		return nil, fault.Wrap(err, "output folder")
	}
	if result.OVF != "" {
		result.OVF = filepath.Join(r.state.Folder, filepath.Base(result.OVF))
	}
	result.Folder = r.state.Folder
	return result, nil
}

// release ends the view. keep leaves at the source what a later run needs.
func (r *run) release(ctx context.Context, complete, keep bool) error {
	if r.view == nil {
		return nil
	}
	if keep {
		err := r.view.Detach(context.WithoutCancel(ctx))
		r.view = nil
		return err
	}
	err := r.view.Close(context.WithoutCancel(ctx), complete)
	if err == nil {
		r.view, r.state.Token = nil, nil
	}
	return err
}

func (r *run) removeStage() error {
	if r.state.Stage == "" {
		return nil
	}
	return fault.Wrap(os.RemoveAll(r.state.Stage), "staging folder")
}

func method(vm driver.VM) string {
	if vm.Power == driver.PowerOff {
		return "nfc-lease"
	}
	return "nfc-lease-snapshot"
}
