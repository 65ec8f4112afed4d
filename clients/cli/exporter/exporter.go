// Package exporter is the command tree of hyperexport: export and convert without a daemon. The work itself comes in through Engine.
package exporter

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hyperplane-project/hyperplane/clients/cli/exit"
	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	"github.com/hyperplane-project/hyperplane/clients/cli/progress"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/version"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// Export is an export to do.
type Export struct {
	Provider     string
	Settings     driver.Settings
	VM           string
	Format       string
	Output       string
	ManifestHash string
	Compress     bool
	Quiesce      bool
	// NoContentHash leaves the SHA-256 of the disks' content out.
	NoContentHash bool
	Parallel      int
	Progress      func(progress.State)
	Log           func(line string)
	Attempts      int
}

// File is a file that was made.
type File struct {
	Path          string `json:"path"`
	Size          int64  `json:"size"`
	SHA256        string `json:"sha256,omitempty"`
	ContentSHA256 string `json:"content_sha256,omitempty"`
	Format        string `json:"format"`
}

// Exported is what an export made.
type Exported struct {
	VM     string `json:"vm"`
	Folder string `json:"folder"`
	OVF    string `json:"ovf"`
	Files  []File `json:"files"`
}

// Engine does the work.
type Engine interface {
	Export(ctx context.Context, e Export) (Exported, error)
	List(ctx context.Context, provider string, s driver.Settings, pattern string) ([]driver.VM, error)
	Get(ctx context.Context, provider string, s driver.Settings, vm string) (driver.VM, error)
	Convert(ctx context.Context, c Convert) (Converted, error)
	// Inspect describes an image without opening another file.
	Inspect(img Image) (image.Info, error)
	// Compare returns the offset of the first difference, or -1.
	Compare(ctx context.Context, a, b Image) (int64, error)
	// Check examines an image's structure and calls report for what it finds.
	Check(ctx context.Context, img Image, report func(image.Finding)) error
	// Readable and Writable are the names of disk formats.
	Readable() []string
	Writable() []string
	Providers() []string
}

// app is what all commands share.
type app struct {
	engine   Engine
	getenv   func(string) string
	format   output.Format
	progress string
}

// New makes the command tree.
func New(engine Engine, getenv func(string) string) *cobra.Command {
	a := &app{engine: engine, getenv: getenv}
	c := &cobra.Command{
		Use:   "hyperexport",
		Short: "Export VMs and convert disk images, without a daemon",
		Long: `hyperexport exports VMs from other platforms to files, and converts disk images.

The source is given by flags or by GOVC_URL, GOVC_USERNAME, GOVC_PASSWORD, GOVC_INSECURE and GOVC_TLS_CA_CERTS. A password is never
taken from the command line, where others could see it.

` + exit.Help + `
compare: 0 the same content, 1 different, 2 could not be compared. check: 0 nothing found, 1 something found, 2 could not be examined.`,
		Version:      version.Text(),
		SilenceUsage: true, SilenceErrors: true,
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fault.As(fault.InvalidArgument, err, "flags") })
	c.PersistentFlags().StringVar(&a.progress, "progress", "auto", "how progress is shown: auto, bar, plain or none")
	a.format.Bind(c, "print") // --output is where an export goes
	c.AddCommand(a.exportCommand(), a.listCommand(), a.infoCommand(), a.convertCommand(), a.inspectCommand(), a.compareCommand(), a.checkCommand())
	for _, sub := range c.Commands() {
		if check := sub.Args; check != nil {
			sub.Args = func(c *cobra.Command, args []string) error {
				return fault.As(fault.InvalidArgument, check(c, args), "%s", c.CommandPath())
			}
		}
	}
	return c
}

// display makes a progress display on the command's error output.
func (a *app) display(c *cobra.Command) (*progress.Display, error) {
	mode, err := progress.ParseMode(a.progress)
	if err != nil {
		return nil, err
	}
	return progress.New(c.ErrOrStderr(), mode, time.Now), nil
}

// Main runs the tool and returns its exit code.
func Main(ctx context.Context, engine Engine) int {
	return exit.Report(os.Stderr, "hyperexport", New(engine, os.Getenv).ExecuteContext(ctx))
}
