package image

import (
	"context"
	"errors"
	"io"
	"net/url"
	"path"
	"time"

	"google.golang.org/grpc"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/pieces"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// tellEvery is how often progress is told at most.
const tellEvery = 200 * time.Millisecond

// AddLocalImage implements LocalImageService.
func (l *Library) AddLocalImage(
	req *hypervisorv1.AddLocalImageRequest, stream grpc.ServerStreamingServer[hypervisorv1.AddLocalImageResponse],
) error {
	var body io.Closer
	a := addition{Library: l, spec: req.GetSpec(), tell: throttled(l.Now, func(what string, done, total uint64) {
		// A client that has gone ends the context.
		_ = stream.Send(&hypervisorv1.AddLocalImageResponse{ProgressMessage: what, BytesDone: done, BytesTotal: total})
	})}
	image, err := a.add(stream.Context(), func(ctx context.Context) (o origin, err error) {
		switch source := req.GetSource().(type) {
		case *hypervisorv1.AddLocalImageRequest_Url:
			o, body, err = l.fromURL(ctx, source.Url)
			return o, err
		case *hypervisorv1.AddLocalImageRequest_JobId:
			return l.fromJob(source.JobId, req.GetJobDisk())
		default:
			return o, fault.New(fault.InvalidArgument, "url, job_id: one of them must say where the image comes from")
		}
	})
	if body != nil {
		err = errors.Join(err, body.Close())
	}
	if err != nil {
		return err
	}
	return stream.Send(&hypervisorv1.AddLocalImageResponse{ProgressMessage: "added", BytesDone: image.GetSize(), BytesTotal: image.GetSize(), Image: image})
}

// fromURL opens an image at a URL. body, if not nil, must be closed.
func (l *Library) fromURL(ctx context.Context, rawURL string) (o origin, body io.Closer, err error) {
	file, local, err := l.URLs.LocalImage(rawURL)
	if err != nil {
		return o, nil, err
	}
	if local {
		return origin{source: "file " + path.Base(file), path: file}, nil, nil
	}
	r, size, err := l.Fetch.Open(ctx, rawURL)
	if err != nil {
		return o, nil, err
	}
	return origin{source: withoutSecrets(rawURL), body: r, size: size}, r, nil
}

// withoutSecrets returns a URL without user, password and query, which may hold a signature.
func withoutSecrets(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "URL"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// fromJob finds a disk that a job made.
func (l *Library) fromJob(id string, index uint32) (o origin, err error) {
	job, err := l.Jobs.Get(id)
	if err != nil {
		return o, err
	}
	if job.GetState() != exportv1.JobState_JOB_STATE_COMPLETED {
		return o, fault.New(fault.FailedPrecondition, "job %s: has not completed", id)
	}
	var disks []*exportv1.OutputFile
	for _, f := range job.GetResult().GetFiles() {
		if f.GetContentSha256() != "" { // others are descriptors and manifests
			disks = append(disks, f)
		}
	}
	if uint64(index) >= uint64(len(disks)) {
		return o, fault.New(fault.InvalidArgument, "job_disk: %d; the job %s has %d disks on this host, from 0", index, id, len(disks))
	}
	d := disks[index]
	return origin{source: "job " + id, path: d.GetPath(), format: d.GetFormat()}, nil
}

// UploadLocalImage implements LocalImageService.
func (l *Library) UploadLocalImage(
	stream grpc.ClientStreamingServer[hypervisorv1.UploadLocalImageRequest, hypervisorv1.UploadLocalImageResponse],
) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) || (err == nil && first.GetSpec() == nil) {
		return fault.New(fault.InvalidArgument, "spec: must be in the first message")
	}
	if err != nil {
		return err
	}
	data := pieces.NewReader(nil, func() ([]byte, error) {
		m, err := stream.Recv()
		if err == nil && m.GetSpec() != nil {
			return nil, fault.New(fault.InvalidArgument, "spec: belongs into the first message only")
		}
		return m.GetData(), err
	})
	a := addition{Library: l, spec: first.GetSpec(), tell: func(string, uint64, uint64) {}}
	image, err := a.add(stream.Context(), func(ctx context.Context) (origin, error) {
		return origin{source: "upload by " + principal.CallerFrom(ctx).Name, body: data, size: -1}, nil
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&hypervisorv1.UploadLocalImageResponse{Image: image})
}

// throttled lets progress through only so often; a text that differs from the last one always passes.
func throttled(now func() time.Time, send progress) progress {
	var last time.Time
	var text string
	return func(what string, done, total uint64) {
		if what == text && now().Sub(last) < tellEvery {
			return
		}
		last, text = now(), what
		send(what, done, total)
	}
}
