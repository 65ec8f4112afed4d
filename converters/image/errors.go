package image

import (
	"errors"
	"fmt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// ErrWrongFormat says "not mine, try the next format". Only an opener returns it, and only from looking at the magic.
var ErrWrongFormat = errors.New("not this image format")

// The reasons for which an image is refused. Each is wrapped in an error with a fault code and with the place and value that is wrong.
var (
	ErrCorrupt     = errors.New("image is damaged")
	ErrTruncated   = errors.New("image ends early")
	ErrUnsupported = errors.New("image feature is not supported")
	ErrEncrypted   = errors.New("image is encrypted")
	ErrReference   = errors.New("image refers to another file")
	ErrLimit       = errors.New("image exceeds a limit")
)

// Corruptf makes an error that wraps ErrCorrupt; the text says where (offset, table, index) and what.
func Corruptf(format string, args ...any) error {
	return refuse(fault.DataLoss, ErrCorrupt, format, args)
}

// Truncatedf makes an error that wraps ErrTruncated.
func Truncatedf(format string, args ...any) error {
	return refuse(fault.DataLoss, ErrTruncated, format, args)
}

// Unsupportedf makes an error that wraps ErrUnsupported; the text names the feature.
func Unsupportedf(format string, args ...any) error {
	return refuse(fault.Unimplemented, ErrUnsupported, format, args)
}

// Encryptedf makes an error that wraps ErrEncrypted.
func Encryptedf(format string, args ...any) error {
	return refuse(fault.FailedPrecondition, ErrEncrypted, format, args)
}

// Referencef makes an error that wraps ErrReference; the text says which file and how to allow it.
func Referencef(format string, args ...any) error {
	return refuse(fault.PermissionDenied, ErrReference, format, args)
}

// Limitf makes an error that wraps ErrLimit; the text says which limit, the value and the maximum.
func Limitf(format string, args ...any) error {
	return refuse(fault.ResourceExhausted, ErrLimit, format, args)
}

func refuse(code fault.Code, kind error, format string, args []any) error {
	return fault.As(code, kind, "%s", fmt.Sprintf(format, args...))
}
