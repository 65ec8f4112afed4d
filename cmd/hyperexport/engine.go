package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/clients/cli/exporter"
	"github.com/hyperplane-project/hyperplane/clients/cli/progress"
	"github.com/hyperplane-project/hyperplane/converters"
	convertersall "github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers"
	providersall "github.com/hyperplane-project/hyperplane/providers/all"
	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/ovf"
	"github.com/hyperplane-project/hyperplane/server/job/transfer"
)

// engine joins providers, converters and the transfer for the command tree.
type engine struct {
	formats   converters.Formats
	providers *providers.Registry
}

func newEngine() *engine {
	return &engine{formats: convertersall.Formats(), providers: providersall.Registry()}
}

// Providers implements exporter.Engine.
func (e *engine) Providers() []string { return e.providers.Names() }

// use logs in, runs fn and logs out.
func (e *engine) use(ctx context.Context, provider string, s driver.Settings, fn func(driver.Driver) error) error {
	d, err := e.providers.Open(ctx, provider, s, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(fn(d), d.Close(context.WithoutCancel(ctx)))
}

// List implements exporter.Engine.
func (e *engine) List(ctx context.Context, provider string, s driver.Settings, pattern string) (vms []driver.VM, err error) {
	err = e.use(ctx, provider, s, func(d driver.Driver) error {
		vms, err = d.ListVMs(ctx, pattern)
		return err
	})
	return vms, err
}

// Get implements exporter.Engine.
func (e *engine) Get(ctx context.Context, provider string, s driver.Settings, vm string) (v driver.VM, err error) {
	err = e.use(ctx, provider, s, func(d driver.Driver) error {
		v, err = d.GetVM(ctx, vm)
		return err
	})
	return v, err
}

// Export implements exporter.Engine. Nothing is kept for a later run: what was interrupted begins anew.
func (e *engine) Export(ctx context.Context, x exporter.Export) (exporter.Exported, error) {
	if st, err := os.Stat(x.Output); err != nil || !st.IsDir() {
		return exporter.Exported{}, fault.New(fault.InvalidArgument, "--output: %s is not a folder; make it first", x.Output)
	}
	plan := transfer.Plan{
		VM: x.VM, Formats: e.formats, Format: x.Format, Compress: x.Compress, Quiesce: x.Quiesce, NoContentHash: x.NoContentHash, Parallel: x.Parallel,
		ManifestHash: x.ManifestHash, ID: uuid.NewString(), Attempts: x.Attempts,
		Folder: func(vm driver.VM) (string, error) { return filepath.Join(x.Output, ovf.SafeName(vm.Name)), nil },
	}
	if plan.ManifestHash == "none" {
		plan.ManifestHash = ""
	}
	hooks := transfer.Hooks{
		Log: func(level slog.Level, format string, args ...any) {
			if level >= slog.LevelInfo {
				x.Log(fmt.Sprintf(format, args...))
			}
		},
		Progress: func(p transfer.Progress) {
			x.Progress(progress.State{Phase: p.Phase, Done: uint64(p.Done), Total: uint64(p.Total), Rate: uint64(p.Rate), Remaining: p.Remaining})
		},
		Load: func(context.Context, *transfer.State) (bool, error) { return false, nil },
		Save: func(context.Context, transfer.State) error { return nil },
		Keep: func(context.Context) bool { return false },
		Now:  time.Now,
	}
	var result *transfer.Result
	err := e.use(ctx, x.Provider, x.Settings, func(d driver.Driver) (err error) {
		result, err = transfer.Run(ctx, d, plan, hooks)
		return err
	})
	if err != nil {
		return exporter.Exported{}, err
	}
	res := exporter.Exported{VM: result.VM.Path, Folder: result.Folder, OVF: result.OVF}
	for _, f := range result.Files {
		res.Files = append(res.Files, exporter.File{
			Path: result.Path(f), Size: f.Size, SHA256: f.SHA256, ContentSHA256: f.ContentSHA256, Format: f.Format,
		})
	}
	return res, nil
}
