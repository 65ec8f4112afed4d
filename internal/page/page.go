// Package page cuts a list into pages.
package page

import (
	"encoding/base64"
	"slices"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Cut returns the page of at most size elements (0 = all) that follows the element named by the token (empty = the beginning), and the
// token of the next page (empty at the end). key names an element; it must be unique and not empty. A token whose element has gone is
// Aborted: the list has changed, begin again.
func Cut[T any](all []T, size uint32, token string, key func(T) string) (page []T, next string, err error) {
	if token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return nil, "", fault.New(fault.InvalidArgument, "page_token: %q is not a token that a list returned", token)
		}
		i := slices.IndexFunc(all, func(e T) bool { return key(e) == string(raw) })
		if i < 0 {
			return nil, "", fault.New(fault.Aborted, "page_token: the list has changed; begin again without a token")
		}
		all = all[i+1:]
	}
	if size == 0 || uint64(size) >= uint64(len(all)) {
		return all, "", nil
	}
	page = all[:size]
	return page, base64.RawURLEncoding.EncodeToString([]byte(key(page[size-1]))), nil
}
