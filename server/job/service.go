package job

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// watchEvery is how often WatchJob sends at most.
const watchEvery = 100 * time.Millisecond

// Service is the JobService.
type Service struct {
	exportv1.UnimplementedJobServiceServer
	Manager *Manager
	// Draining is closed when the server ends; streams then end too.
	Draining <-chan struct{}
}

var _ exportv1.JobServiceServer = (*Service)(nil)

// SubmitJob implements JobService.
func (s *Service) SubmitJob(ctx context.Context, req *exportv1.SubmitJobRequest) (*exportv1.SubmitJobResponse, error) {
	if req.GetSpec().GetWork() == nil {
		return nil, fault.New(fault.InvalidArgument, "spec: is missing; give spec.export or spec.convert")
	}
	j, err := s.Manager.Submit(ctx, req.GetName(), principal.CallerFrom(ctx).Name, req.GetRequestId(), req.GetSpec())
	if err != nil {
		return nil, err
	}
	return &exportv1.SubmitJobResponse{Job: j}, nil
}

// GetJob implements JobService.
func (s *Service) GetJob(_ context.Context, req *exportv1.GetJobRequest) (*exportv1.GetJobResponse, error) {
	j, err := s.Manager.Get(req.GetId())
	if err != nil {
		return nil, err
	}
	return &exportv1.GetJobResponse{Job: j}, nil
}

// ListJobs implements JobService.
func (s *Service) ListJobs(_ context.Context, req *exportv1.ListJobsRequest) (*exportv1.ListJobsResponse, error) {
	all, next, err := page.Cut(s.Manager.List(req.GetStates()), req.GetPageSize(), req.GetPageToken(), (*exportv1.Job).GetId)
	if err != nil {
		return nil, err
	}
	return &exportv1.ListJobsResponse{Jobs: all, NextPageToken: next}, nil
}

// WatchJob implements JobService.
func (s *Service) WatchJob(req *exportv1.WatchJobRequest, stream grpc.ServerStreamingServer[exportv1.WatchJobResponse]) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		j, changed, err := s.Manager.Watch(req.GetId())
		if err != nil {
			return err
		}
		if err := stream.Send(&exportv1.WatchJobResponse{Job: j}); err != nil || ended(j.GetState()) {
			return err
		}
		select {
		case <-changed:
		case <-s.Draining:
			return fault.New(fault.Unavailable, "the server is shutting down; the job goes on when it is back")
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		select {
		case <-tick.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// CancelJob implements JobService.
func (s *Service) CancelJob(ctx context.Context, req *exportv1.CancelJobRequest) (*exportv1.CancelJobResponse, error) {
	j, err := s.Manager.Cancel(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &exportv1.CancelJobResponse{Job: j}, nil
}

// ListJobLogs implements JobService.
func (s *Service) ListJobLogs(ctx context.Context, req *exportv1.ListJobLogsRequest) (*exportv1.ListJobLogsResponse, error) {
	var after uint64
	if token := req.GetPageToken(); token != "" {
		var err error
		if after, err = strconv.ParseUint(token, 10, 64); err != nil {
			return nil, fault.New(fault.InvalidArgument, "page_token: %q is not a token that a list returned", token)
		}
	}
	entries, err := s.Manager.Logs(ctx, req.GetId(), after, int(req.GetPageSize()))
	if err != nil {
		return nil, err
	}
	res := &exportv1.ListJobLogsResponse{Entries: entries}
	if n := len(entries); req.GetPageSize() > 0 && uint64(n) == uint64(req.GetPageSize()) {
		res.NextPageToken = strconv.FormatUint(entries[n-1].GetSequence(), 10)
	}
	return res, nil
}
