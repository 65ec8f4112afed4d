package rest

import (
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

const (
	// maxSpec bounds the JSON part of an upload.
	maxSpec = 1 << 20
	// pieceSize is how much of an upload one message carries.
	pieceSize = 256 << 10
)

// uploadVM is CreateVm with the image as an upload: a multipart/form-data body whose first part, "spec", is the CreateVmSpec as JSON with
// image_data_size set, and whose second part, "image", is the image. It answers with the last CreateVmResponse.
func (h handlers) uploadVM(w http.ResponseWriter, r *http.Request) {
	final, err := h.upload(r)
	if err != nil {
		fail(w, r, err)
		return
	}
	body, err := marshaler().Marshal(final)
	if err != nil {
		fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) //nolint:gosec // JSON made by protojson, sent as JSON; a client that has gone needs no answer
}

func (h handlers) upload(r *http.Request) (*hypervisorv1.CreateVmResponse, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "body: send multipart/form-data with the parts spec and image")
	}
	spec, err := readSpec(parts)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(r.Context(), outgoing(r)))
	defer cancel()
	stream, err := hypervisorv1.NewVmServiceClient(h.Channel).CreateVm(ctx)
	if err != nil {
		return nil, err
	}
	// Answers are taken while the image is sent: the handler tells its progress, and must not wait for us.
	answered := make(chan final, 1)
	go func() { answered <- lastAnswer(stream) }()
	broken := sendAll(stream, spec, parts)
	if broken != nil && !errors.Is(broken, io.EOF) {
		cancel() // the client's part is bad; the handler takes back what it has made
		<-answered
		return nil, broken
	}
	a := <-answered // also if the handler has ended early: it says why
	return a.message, a.err
}

// final is the end of a stream of answers.
type final struct {
	message *hypervisorv1.CreateVmResponse
	err     error
}

// lastAnswer reads answers until the last one.
func lastAnswer(stream grpc.BidiStreamingClient[hypervisorv1.CreateVmRequest, hypervisorv1.CreateVmResponse]) final {
	for {
		m, err := stream.Recv()
		if err != nil || m.GetFinal() {
			return final{m, err}
		}
	}
}

// sendAll sends the spec and the image. io.EOF says that the handler has ended.
func sendAll(
	stream grpc.BidiStreamingClient[hypervisorv1.CreateVmRequest, hypervisorv1.CreateVmResponse], spec *hypervisorv1.CreateVmSpec,
	parts *multipart.Reader,
) error {
	if err := stream.Send(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: spec}}); err != nil {
		return err
	}
	if spec.GetImageDataSize() > 0 {
		if err := sendImage(stream, parts); err != nil {
			return err
		}
	}
	return stream.CloseSend()
}

func readSpec(parts *multipart.Reader) (*hypervisorv1.CreateVmSpec, error) {
	part, err := nextPart(parts, "spec")
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(part, maxSpec+1))
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "part spec")
	}
	if len(raw) > maxSpec {
		return nil, fault.New(fault.InvalidArgument, "part spec: is longer than %d bytes", maxSpec)
	}
	spec := new(hypervisorv1.CreateVmSpec)
	if err := protojson.Unmarshal(raw, spec); err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "part spec")
	}
	return spec, nil
}

func nextPart(parts *multipart.Reader, want string) (*multipart.Part, error) {
	part, err := parts.NextPart()
	if errors.Is(err, io.EOF) {
		return nil, fault.New(fault.InvalidArgument, "body: part %q is missing", want)
	}
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "body")
	}
	if part.FormName() != want {
		return nil, fault.New(fault.InvalidArgument, "body: part %q in the place of part %q", part.FormName(), want)
	}
	return part, nil
}

func sendImage(stream grpc.BidiStreamingClient[hypervisorv1.CreateVmRequest, hypervisorv1.CreateVmResponse], parts *multipart.Reader) error {
	part, err := nextPart(parts, "image")
	if err != nil {
		return err
	}
	for {
		piece := make([]byte, pieceSize) // the receiver keeps it
		n, err := io.ReadFull(part, piece)
		if n > 0 {
			m := &hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_ImageData{ImageData: piece[:n]}}
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fault.As(fault.InvalidArgument, err, "part image: after %d bytes", n)
		}
	}
}

// outgoing carries the credential and the request id of an HTTP request to the channel.
func outgoing(r *http.Request) metadata.MD {
	md := metadata.Pairs(intercept.RequestIDKey, r.Header.Get(requestIDHeader))
	md.Append("authorization", r.Header.Values("Authorization")...)
	return md
}
