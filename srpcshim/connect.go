package srpcshim

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// connected is the whole answer to a good CONNECT request. The reason text is compared by clients. CR LF CR LF ends it for clients that wait
// for exactly that; others accept it too.
const connected = "HTTP/1.0 200 Connected to Go SRPC\r\n\r\n"

const (
	// lineSize bounds a line of the CONNECT request and a method line.
	lineSize = 4 << 10
	// headerLines bounds the CONNECT request.
	headerLines = 64
)

// endpoint is what a path of the CONNECT request stands for.
type endpoint struct {
	secure   bool
	encoding encoding
	// noPowers gives up the method powers of the caller's certificate.
	noPowers bool
}

// refusal is a CONNECT request that is answered with an error.
type refusal struct {
	status int
	text   string
}

// Error implements error.
func (r *refusal) Error() string { return r.text }

// answer is what the client gets to see.
func (r *refusal) answer() string {
	return fmt.Sprintf("HTTP/1.0 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s\n",
		r.status, http.StatusText(r.status), len(r.text)+1, r.text)
}

// readConnect reads a CONNECT request. Lines may end in LF or CR LF.
func readConnect(in *bufio.Reader) (endpoint, error) {
	first, err := readLine(in)
	if err != nil {
		return endpoint{}, err
	}
	for n := 0; ; n++ {
		line, err := readLine(in)
		if err != nil {
			return endpoint{}, err
		}
		if line == "" {
			return parseConnect(first)
		}
		if n == headerLines {
			return endpoint{}, &refusal{http.StatusBadRequest, "too many header lines"}
		}
	}
}

func parseConnect(line string) (endpoint, error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !strings.HasPrefix(parts[2], "HTTP/1.") {
		return endpoint{}, &refusal{http.StatusBadRequest, "malformed request line"}
	}
	if parts[0] != http.MethodConnect {
		return endpoint{}, &refusal{http.StatusBadRequest, "SRPC begins with CONNECT"}
	}
	target, err := url.ParseRequestURI(parts[1])
	if err != nil {
		return endpoint{}, &refusal{http.StatusBadRequest, "malformed path"}
	}
	e, ok := endpointOf(target.Path)
	if !ok {
		return endpoint{}, &refusal{http.StatusNotFound, "no such SRPC endpoint"}
	}
	e.noPowers = target.Query().Get("doNotUseMethodPowers") == "true"
	return e, nil
}

func endpointOf(path string) (endpoint, bool) {
	switch path {
	case "/_go_TLS_SRPC_/":
		return endpoint{secure: true, encoding: gobEncoding}, true
	case "/_SRPC_/TLS/JSON":
		return endpoint{secure: true, encoding: jsonEncoding}, true
	case "/_goSRPC_/":
		return endpoint{encoding: gobEncoding}, true
	case "/_SRPC_/unsecured/JSON":
		return endpoint{encoding: jsonEncoding}, true
	default:
		return endpoint{}, false
	}
}

// readLine reads a line without its end. It is a refusal if it is longer than the reader's buffer.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", &refusal{http.StatusBadRequest, "line is too long"}
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"), nil
}
