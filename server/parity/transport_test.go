package parity_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// transport calls a method with one request and one reply as administrator.
type transport interface {
	call(ctx context.Context, m protoreflect.MethodDescriptor, req proto.Message) (proto.Message, error)
}

// grpcTransport is gRPC over TLS with the admin certificate.
type grpcTransport struct{ cc *grpc.ClientConn }

func (t grpcTransport) call(ctx context.Context, m protoreflect.MethodDescriptor, req proto.Message) (proto.Message, error) {
	res := dynamicpb.NewMessage(m.Output())
	return res, t.cc.Invoke(ctx, fullMethod(m), req, res)
}

func fullMethod(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

// restTransport is REST over TLS with the admin token. It makes requests from the schema's http annotations alone.
type restTransport struct {
	client *http.Client
	base   string
	token  string
}

func (t restTransport) call(ctx context.Context, m protoreflect.MethodDescriptor, req proto.Message) (proto.Message, error) {
	verb, path, body := httpRule(m)
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(req)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	path = regexp.MustCompile(`\{(\w+)\}`).ReplaceAllStringFunc(path, func(name string) string {
		name = strings.Trim(name, "{}")
		value, given := fields[name]
		delete(fields, name)
		if !given {
			value = 0
		}
		return url.PathEscape(fmt.Sprint(value))
	})
	var content io.Reader = http.NoBody
	target := t.base + path
	if body {
		rest, err := json.Marshal(fields)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(rest)
	} else if len(fields) > 0 {
		q := url.Values{}
		for k, v := range fields {
			q.Set(k, fmt.Sprint(v))
		}
		target += "?" + q.Encode()
	}
	answer, err := t.do(ctx, verb, target, content)
	if err != nil {
		return nil, err
	}
	res := dynamicpb.NewMessage(m.Output())
	return res, protojson.Unmarshal(answer, res)
}

// do sends a request and turns an error answer back into a status.
func (t restTransport) do(ctx context.Context, verb, target string, content io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, verb, target, content)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	res, err := t.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return answer, nil
	}
	var problem struct {
		Code    codes.Code `json:"code"`
		Message string     `json:"message"`
	}
	if err := json.Unmarshal(answer, &problem); err != nil {
		return nil, fmt.Errorf("%s %s: %s: %s", verb, target, res.Status, answer)
	}
	return nil, status.Error(problem.Code, problem.Message)
}

// httpRule returns a method's verb and path, and whether the request is the body.
func httpRule(m protoreflect.MethodDescriptor) (verb, path string, body bool) {
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get, false
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post, true
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put, true
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch, true
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete, false
	default:
		return "", "", false
	}
}
