package exporter

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/units"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// sourceFlags say where VMs come from.
type sourceFlags struct {
	provider, url, username, passwordFile, ca, thumbprint string
	insecure                                              bool
}

func (f *sourceFlags) bind(a *app, c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&f.provider, "provider", "vsphere", "platform of the source")
	s.StringVar(&f.url, "url", a.getenv("GOVC_URL"), "`URL` of the source, as https://vcenter.example.com/sdk")
	s.StringVarP(&f.username, "username", "u", a.getenv("GOVC_USERNAME"), "`user` at the source")
	s.StringVar(&f.passwordFile, "password-file", "", "`file` that holds the password (default: GOVC_PASSWORD)")
	s.StringVar(&f.ca, "ca", a.getenv("GOVC_TLS_CA_CERTS"), "`file` of the CA that signed the source's certificate")
	s.StringVar(&f.thumbprint, "thumbprint", "", "SHA-256 or SHA-1 of the source's certificate, to trust that one")
	insecure, _ := strconv.ParseBool(a.getenv("GOVC_INSECURE")) // anything unreadable means: be secure
	s.BoolVar(&f.insecure, "insecure", insecure, "accept any certificate")
	_ = c.RegisterFlagCompletionFunc("provider", cobra.FixedCompletions(a.engine.Providers(), cobra.ShellCompDirectiveNoFileComp)) // the flag was just made
}

func (f *sourceFlags) settings(a *app, parallel int) (driver.Settings, error) {
	s := driver.Settings{
		URL: f.url, Username: f.username, Password: driver.Secret(a.getenv("GOVC_PASSWORD")), InsecureSkipVerify: f.insecure, CAFile: f.ca,
		Thumbprint: f.thumbprint, Parallel: parallel,
	}
	if f.passwordFile != "" {
		raw, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return s, fault.Wrap(err, "password")
		}
		s.Password = driver.Secret(strings.TrimRight(string(raw), "\r\n"))
	}
	if s.URL == "" {
		return s, fault.New(fault.InvalidArgument, "--url: is missing; give it or GOVC_URL")
	}
	return s, nil
}

func (a *app) exportCommand() *cobra.Command {
	var f sourceFlags
	var e Export
	var quiet bool
	c := &cobra.Command{
		Use: "export", Short: "Export a VM to a folder: disks, OVF, manifest", Args: cobra.NoArgs,
		Example: `  hyperexport export --provider vsphere --vm /DC0/vm/web-1 --format qcow2 --output /exports`,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			e.Provider = f.provider
			if e.Settings, err = f.settings(a, e.Parallel); err != nil {
				return err
			}
			if e.Output, err = filepath.Abs(e.Output); err != nil {
				return fault.Wrap(err, "--output")
			}
			d, err := a.display(c)
			if err != nil {
				return err
			}
			defer d.Close()
			e.Progress = d.Update
			e.Log = func(line string) {
				if !quiet {
					d.Close()
					fmt.Fprintln(c.ErrOrStderr(), line)
				}
			}
			res, err := a.engine.Export(c.Context(), e)
			d.Close()
			if err != nil {
				return err
			}
			return output.WriteValue(c.OutOrStdout(), a.format, res, func() output.Rows {
				r := output.Rows{Header: []string{"FILE", "SIZE", "SHA-256"}}
				for _, f := range res.Files {
					r.Add(f.Path, units.Bytes(uint64(f.Size)), f.SHA256)
				}
				return r
			})
		},
	}
	s := c.Flags()
	s.StringVar(&e.VM, "vm", "", "the VM's `path`, name or key at the source")
	s.StringVar(&e.Output, "output", ".", "`folder` in which the VM's folder is made")
	s.StringVar(&e.Format, "format", "qcow2", "qcow2, raw, vmdk, vhd, vhdx or vdi")
	s.StringVar(&e.ManifestHash, "manifest-hash", "sha256", "hash of the manifest: sha1, sha256 or sha512; none = no OVF and no manifest")
	s.BoolVar(&e.Compress, "compress", false, "compress the disks, where the format can")
	s.BoolVar(&e.Quiesce, "quiesce", false, "ask the guest of a running VM to flush its file systems first")
	s.BoolVar(&e.NoContentHash, "no-content-hash", false, "do not compute the SHA-256 of the disks' content; digests of the source are compared all the same")
	s.IntVar(&e.Parallel, "parallel", 4, "how many disks are read at once")
	s.IntVar(&e.Attempts, "attempts", 3, "how often a disk is begun before the export fails")
	s.BoolVarP(&quiet, "quiet", "q", false, "say nothing but errors and the result")
	_ = c.MarkFlagRequired("vm") // the flag was just made
	f.bind(a, c)
	return c
}

func (a *app) listCommand() *cobra.Command {
	var f sourceFlags
	c := &cobra.Command{
		Use: "list [PATTERN]", Short: "List the source's VMs", Aliases: []string{"ls"}, Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := f.settings(a, 0)
			if err != nil {
				return err
			}
			vms, err := a.engine.List(c.Context(), f.provider, s, strings.Join(args, ""))
			if err != nil {
				return err
			}
			return output.WriteValue(c.OutOrStdout(), a.format, views(vms), func() output.Rows {
				r := output.Rows{Header: []string{"PATH", "POWER", "CPUS", "MEMORY", "USED"}}
				for _, v := range views(vms) {
					r.Add(v.Path, v.Power, strconv.FormatUint(uint64(v.CPUs), 10), units.Bytes(v.MemoryBytes), units.Bytes(v.UsedBytes))
				}
				return r
			})
		},
	}
	f.bind(a, c)
	return c
}

func (a *app) infoCommand() *cobra.Command {
	var f sourceFlags
	c := &cobra.Command{
		Use: "info VM", Short: "Show one VM of the source and what stands against its export", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := f.settings(a, 0)
			if err != nil {
				return err
			}
			vm, err := a.engine.Get(c.Context(), f.provider, s, args[0])
			if err != nil {
				return err
			}
			return output.WriteValue(c.OutOrStdout(), a.format, viewOf(vm), func() output.Rows {
				v := viewOf(vm)
				var r output.Rows
				r.Add("Path", v.Path)
				r.Add("Power", v.Power)
				r.Add("CPUs", strconv.FormatUint(uint64(v.CPUs), 10))
				r.Add("Memory", units.Bytes(v.MemoryBytes))
				r.Add("Firmware", v.Firmware)
				for _, d := range v.Disks {
					r.Add(d.Label, units.Bytes(uint64(d.Capacity))+", "+d.File)
				}
				for _, b := range v.Blockers {
					r.Add("Blocker", b)
				}
				return r
			})
		},
	}
	f.bind(a, c)
	return c
}

// view is a VM as programs read it.
type view struct {
	ID          string            `json:"id"`
	Path        string            `json:"path"`
	Name        string            `json:"name"`
	UUID        string            `json:"uuid"`
	Power       string            `json:"power"`
	CPUs        uint32            `json:"cpus"`
	MemoryBytes uint64            `json:"memory_bytes"`
	UsedBytes   uint64            `json:"used_bytes"`
	Firmware    string            `json:"firmware,omitempty"`
	Disks       []driver.DiskInfo `json:"disks,omitempty"`
	NICs        []driver.NIC      `json:"nics,omitempty"`
	Blockers    []string          `json:"blockers,omitempty"`
}

func views(vms []driver.VM) []view {
	all := make([]view, len(vms))
	for i, v := range vms {
		all[i] = viewOf(v)
	}
	return all
}

func viewOf(v driver.VM) view {
	power := map[driver.PowerState]string{driver.PowerOff: "off", driver.PowerOn: "on", driver.PowerSuspended: "suspended"}[v.Power]
	firmware := map[driver.Firmware]string{driver.FirmwareBIOS: "bios", driver.FirmwareUEFI: "uefi"}[v.Firmware]
	return view{v.ID, v.Path, v.Name, v.UUID, power, v.CPUs, v.MemoryBytes, v.UsedBytes, firmware, v.Disks, v.NICs, v.Blockers}
}
