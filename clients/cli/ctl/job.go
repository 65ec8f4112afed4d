package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	"github.com/hyperplane-project/hyperplane/clients/cli/progress"
	client "github.com/hyperplane-project/hyperplane/clients/go"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

func (a *app) jobCommand() *cobra.Command {
	c := &cobra.Command{Use: "job", Short: "Run export and convert jobs", Aliases: []string{"jobs"}}
	c.AddCommand(a.jobSubmit(), a.jobList(), a.jobGet(), a.jobWatch(), a.jobCancel(), a.jobLogs())
	return c
}

// sourceFlags name a source; none of them = the server's own.
type sourceFlags struct {
	provider, url, username, passwordFile, caFile, thumbprint string
	insecure                                                  bool
}

func (f *sourceFlags) bind(c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&f.provider, "provider", "vsphere", "platform of the source")
	s.StringVar(&f.url, "url", "", "`URL` of the source (default: the server's own)")
	s.StringVarP(&f.username, "username", "u", "", "`user` at the source")
	s.StringVar(&f.passwordFile, "password-file", "", "`file` that holds the password (default: GOVC_PASSWORD)")
	s.StringVar(&f.caFile, "source-ca", "", "`file` of the CA that signed the source's certificate")
	s.StringVar(&f.thumbprint, "thumbprint", "", "SHA-256 or SHA-1 of the source's certificate, to trust that one")
	s.BoolVar(&f.insecure, "insecure", false, "accept any certificate of the source")
}

func (f *sourceFlags) source(getenv func(string) string) (*exportv1.Source, error) {
	if f.url == "" {
		return nil, nil
	}
	src := &exportv1.Source{
		Provider: f.provider, Url: f.url, Username: f.username, InsecureSkipVerify: f.insecure, Thumbprint: f.thumbprint, Password: getenv("GOVC_PASSWORD"),
	}
	if f.passwordFile != "" {
		var err error
		if src.Password, err = client.ReadToken(f.passwordFile); err != nil {
			return nil, err
		}
	}
	if f.caFile != "" {
		raw, err := os.ReadFile(f.caFile)
		if err != nil {
			return nil, fault.Wrap(err, "source CA")
		}
		src.CaPem = string(raw)
	}
	return src, nil
}

func (a *app) jobSubmit() *cobra.Command {
	var f sourceFlags
	var name, vm, format, dir, hostname, subnet string
	var compress, quiesce, toLibvirt, start, watch bool
	var networks, tags map[string]string
	c := &cobra.Command{
		Use: "submit", Short: "Export a VM: to files of the server's host, or to a VM there", Args: cobra.NoArgs,
		Example: `  hyperctl job submit --vm /DC0/vm/web-1 --format qcow2 --output-dir /exports --watch
  hyperctl job submit --vm /DC0/vm/web-1 --to-libvirt --start --watch`,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, _ []string) error {
			src, err := f.source(a.getenv)
			if err != nil {
				return err
			}
			e := &exportv1.ExportSpec{Source: src, Vm: vm, Compress: compress, Quiesce: quiesce}
			if e.Format, err = parseFormat(format); err != nil {
				return err
			}
			switch {
			case toLibvirt == (dir != ""):
				return fault.New(fault.InvalidArgument, "give --output-dir or --to-libvirt")
			case toLibvirt:
				e.Destination = &exportv1.ExportSpec_Libvirt{Libvirt: &exportv1.LibvirtDestination{
					Hostname: hostname, SubnetId: subnet, NetworkMap: networks, Start: start, Tags: tags,
				}}
			default:
				e.Destination = &exportv1.ExportSpec_Directory{Directory: &exportv1.DirectoryDestination{Path: dir}}
			}
			jobs := exportv1.NewJobServiceClient(cc)
			res, err := jobs.SubmitJob(ctx, &exportv1.SubmitJobRequest{Name: name, Spec: &exportv1.JobSpec{Work: &exportv1.JobSpec_Export{Export: e}}})
			if err != nil {
				return err
			}
			if watch {
				return a.watch(ctx, c, jobs, res.GetJob().GetId())
			}
			return a.showJob(c, res.GetJob())
		}),
	}
	s := c.Flags()
	s.StringVar(&vm, "vm", "", "the VM's `path`, name or key at the source")
	_ = c.MarkFlagRequired("vm") // the flag was just made
	s.StringVar(&name, "name", "", "name of the job, for people")
	s.StringVar(&format, "format", "", "qcow2, raw, vmdk, vhd, vhdx or vdi (default: the server's)")
	s.BoolVar(&compress, "compress", false, "compress the disks, where the format can")
	s.BoolVar(&quiesce, "quiesce", false, "ask the guest of a running VM to flush its file systems first")
	s.StringVar(&dir, "output-dir", "", "`directory` on the server's host")
	s.BoolVar(&toLibvirt, "to-libvirt", false, "make a VM on the server's host")
	s.StringVar(&hostname, "hostname", "", "name of the VM there (default: that at the source)")
	s.StringVar(&subnet, "subnet", "", "`subnet` of the VM there")
	s.StringToStringVar(&networks, "network", nil, "`network=subnet` for a network of the source, may be repeated")
	s.StringToStringVar(&tags, "tag", nil, "`key=value` for the VM there, may be repeated")
	s.BoolVar(&start, "start", false, "start the VM there")
	s.BoolVarP(&watch, "watch", "w", false, "show progress until the job ends; its failure is the command's")
	f.bind(c)
	return c
}

func parseFormat(name string) (exportv1.DiskFormat, error) {
	if name == "" {
		return exportv1.DiskFormat_DISK_FORMAT_UNSPECIFIED, nil
	}
	f, ok := enumtext.Parse[exportv1.DiskFormat](strings.ToLower(name))
	if !ok {
		return 0, fault.New(fault.InvalidArgument, "--format: %q is not one of %s", name, strings.Join(enumtext.Words(f.Descriptor()), ", "))
	}
	return f, nil
}

func (a *app) jobList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List jobs, newest first", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, _ []string) error {
			res, err := exportv1.NewJobServiceClient(cc).ListJobs(ctx, &exportv1.ListJobsRequest{})
			if err != nil {
				return err
			}
			return output.Write(c.OutOrStdout(), a.format, res, func() output.Rows {
				r := output.Rows{Header: []string{"ID", "NAME", "WHAT", "STATE", "DONE", "SUBMITTED"}}
				for _, j := range res.GetJobs() {
					r.Add(j.GetId(), j.GetName(), what(j), enumtext.Of(j.GetState()), percent(j), j.GetCreatedOn().AsTime().Format(time.DateTime))
				}
				return r
			})
		}),
	}
}

func what(j *exportv1.Job) string {
	if e := j.GetSpec().GetExport(); e != nil {
		return "export " + e.GetVm()
	}
	return "convert " + j.GetSpec().GetConvert().GetSourcePath()
}

func percent(j *exportv1.Job) string {
	if j.GetState() == exportv1.JobState_JOB_STATE_COMPLETED {
		return "100%"
	}
	p := j.GetProgress()
	if p.GetBytesTotal() == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f%%", float64(p.GetBytesDone())/float64(p.GetBytesTotal())*100)
}

func (a *app) jobGet() *cobra.Command {
	return &cobra.Command{
		Use: "get JOB", Short: "Show one job", Args: cobra.ExactArgs(1),
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			res, err := exportv1.NewJobServiceClient(cc).GetJob(ctx, &exportv1.GetJobRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return a.showJob(c, res.GetJob())
		}),
	}
}

func (a *app) showJob(c *cobra.Command, j *exportv1.Job) error {
	return output.Write(c.OutOrStdout(), a.format, j, func() output.Rows {
		var r output.Rows
		r.Add("Job", j.GetId())
		r.Add("What", what(j))
		r.Add("State", enumtext.Of(j.GetState()))
		if d := percent(j); d != "" {
			r.Add("Done", d)
		}
		if j.GetError() != nil {
			r.Add("Error", j.GetError().GetMessage())
		}
		if res := j.GetResult(); res != nil {
			r.Add("Took", res.GetDuration().AsDuration().Round(time.Millisecond).String())
			for _, f := range res.GetFiles() {
				if f.GetPath() != "" {
					r.Add("File", f.GetPath()+" ("+units.Bytes(f.GetSize())+")")
				}
			}
			if res.GetVmUuid() != "" {
				r.Add("VM", res.GetVmIpAddress()+" ("+res.GetVmUuid()+")")
			}
		}
		return r
	})
}

func (a *app) jobWatch() *cobra.Command {
	return &cobra.Command{
		Use: "watch JOB", Short: "Show a job's progress until it ends", Args: cobra.ExactArgs(1),
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			return a.watch(ctx, c, exportv1.NewJobServiceClient(cc), args[0])
		}),
	}
}

// watch shows progress until the job ends. A job that failed or was cancelled is an error.
func (a *app) watch(ctx context.Context, c *cobra.Command, jobs exportv1.JobServiceClient, id string) error {
	display, err := a.display(c.ErrOrStderr())
	if err != nil {
		return err
	}
	defer display.Close()
	stream, err := jobs.WatchJob(ctx, &exportv1.WatchJobRequest{Id: id})
	if err != nil {
		return err
	}
	var j *exportv1.Job
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		j = m.GetJob()
		p := j.GetProgress()
		s := progress.State{Phase: p.GetPhase(), Done: p.GetBytesDone(), Total: p.GetBytesTotal(), Rate: p.GetRateBytesPerSecond(), Remaining: -1}
		if r := p.GetEstimatedRemaining(); r != nil {
			s.Remaining = r.AsDuration()
		}
		display.Update(s)
	}
	display.Close()
	switch j.GetState() {
	case exportv1.JobState_JOB_STATE_COMPLETED:
		return a.showJob(c, j)
	case exportv1.JobState_JOB_STATE_CANCELLED:
		return fault.New(fault.Canceled, "job %s: was cancelled", id)
	default:
		return fault.New(fault.Unknown, "job %s: %s", id, j.GetError().GetMessage())
	}
}

func (a *app) jobCancel() *cobra.Command {
	return &cobra.Command{
		Use: "cancel JOB...", Short: "Cancel jobs and wait until their work has stopped", Args: cobra.MinimumNArgs(1),
		RunE: a.with(func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
			for _, id := range args {
				if _, err := exportv1.NewJobServiceClient(cc).CancelJob(ctx, &exportv1.CancelJobRequest{Id: id}); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func (a *app) jobLogs() *cobra.Command {
	return &cobra.Command{
		Use: "logs JOB", Short: "Show a job's log", Args: cobra.ExactArgs(1),
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			res, err := exportv1.NewJobServiceClient(cc).ListJobLogs(ctx, &exportv1.ListJobLogsRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return output.Write(c.OutOrStdout(), a.format, res, func() output.Rows {
				var r output.Rows
				for _, e := range res.GetEntries() {
					r.Add(e.GetTime().AsTime().Format(time.DateTime), e.GetLevel(), e.GetMessage())
				}
				return r
			})
		}),
	}
}
