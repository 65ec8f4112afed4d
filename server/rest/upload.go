package rest

import (
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
	ctx := metadata.NewOutgoingContext(r.Context(), outgoing(r))
	stream, err := hypervisorv1.NewVmServiceClient(h.Channel).CreateVm(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: spec}}); err != nil {
		return nil, answer(stream, err)
	}
	if spec.GetImageDataSize() > 0 {
		if err := sendImage(stream, parts); err != nil {
			return nil, err
		}
	}
	return finish(stream)
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
				return answer(stream, err)
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

// finish says that nothing follows and returns the last answer.
func finish(stream grpc.BidiStreamingClient[hypervisorv1.CreateVmRequest, hypervisorv1.CreateVmResponse]) (*hypervisorv1.CreateVmResponse, error) {
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if m.GetFinal() {
			return m, nil
		}
	}
}

// answer returns the handler's own error for a Send that failed because the handler has ended.
func answer(stream grpc.BidiStreamingClient[hypervisorv1.CreateVmRequest, hypervisorv1.CreateVmResponse], sent error) error {
	if !errors.Is(sent, io.EOF) {
		return sent
	}
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

// outgoing carries the credential and the request id of an HTTP request to the channel.
func outgoing(r *http.Request) metadata.MD {
	md := metadata.Pairs(intercept.RequestIDKey, r.Header.Get(requestIDHeader))
	md.Append("authorization", r.Header.Values("Authorization")...)
	return md
}
