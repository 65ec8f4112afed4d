package vsphere

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// TestAnswerMustShowItsEnd refuses an answer whose end is the end of the connection: a cut would look the same.
func TestAnswerMustShowItsEnd(t *testing.T) {
	t.Parallel()
	for head, want := range map[string]fault.Code{
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nVMDK":                              fault.OK,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nVMDK\r\n0\r\n\r\n":   fault.OK,
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nVMDK":                              fault.FailedPrecondition,
		"HTTP/1.0 200 OK\r\n\r\nVMDK":                                                   fault.FailedPrecondition,
		"HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\n\r\nVMDK":                 fault.Internal,
		"HTTP/1.1 302 Found\r\nLocation: https://h/\r\nContent-Length: 0\r\n\r\n":       fault.Internal,
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n":                 fault.Unavailable,
		"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n":                        fault.Unauthenticated,
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n":                           fault.NotFound,
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: identity\r\n\r\nVM": fault.OK,
	} {
		res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(head)), nil)
		if err != nil {
			continue // refused by the HTTP client already
		}
		err = classify(checkAnswer(res, "h"), "disk")
		if fault.CodeOf(err) != want {
			t.Errorf("%q: %v, want code %d", head, err, want)
		}
		_ = res.Body.Close()
	}
}
