#!/bin/sh
# A private certificate authority for Dask, and a certificate each for scheduler, workers and clients.
#
#   configs/certificates.sh [FOLDER]     (default: configs/certificates, which git and the image leave out)
#
# Dask knows no passwords: whoever holds a certificate of this authority may run code on the workers. Run it again at any
# time; what is still good for 30 days stays as it is, so that a monthly run renews certificates in time. Restart the
# services after a renewal. The authority's own key (ca.key) is needed here only: keep it offline if you can.
set -eu

folder=${1:-$(dirname "$0")/certificates}
authority_days=${AUTHORITY_DAYS:-3650}
certificate_days=${CERTIFICATE_DAYS:-365}
margin=$((30 * 24 * 3600)) # seconds; renewed when less than this is left

# Nobody but the owner may enter the folder. The files in it are readable, because Compose mounts them as they are and
# the services run under another number than the person who starts them.
umask 077
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

good() { # CERTIFICATE KEY: both are there, and the first is valid for a while and was signed by our authority
    [ -s "$1" ] && [ -s "$2" ] &&
        openssl x509 -in "$1" -noout -checkend "$margin" >/dev/null &&
        openssl verify -CAfile ca.crt "$1" >/dev/null 2>&1
}

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

authority() {
    key ca.key
    openssl req -x509 -new -key ca.key -sha256 -days "$authority_days" -subj "/O=lossops/CN=lossops Dask authority" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" -out ca.crt
}

certificate() { # NAME USES HOSTS
    key "$1.key"
    openssl req -new -key "$1.key" -subj "/O=lossops/CN=$1" -out "$1.csr"
    cat >"$1.ext" <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $2
subjectAltName = $3
END
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days "$certificate_days" \
        -extfile "$1.ext" -out "$1.crt" 2>/dev/null
    rm "$1.csr" "$1.ext"
    chmod 444 "$1.crt" "$1.key"
}

renew() { # NAME USES HOSTS
    if good "$1.crt" "$1.key"; then
        echo "$1: $(openssl x509 -in "$1.crt" -noout -enddate), kept"
    else
        rm -f "$1.crt" "$1.key"
        certificate "$@"
        echo "$1: $(openssl x509 -in "$1.crt" -noout -enddate), new"
    fi
}

if ! good ca.crt ca.key; then
    rm -f ca.crt ca.key
    authority
    chmod 444 ca.crt
    echo "authority: new; every certificate is issued again"
fi
# Scheduler and workers answer calls and make them; a client only makes them, so its certificate cannot pass for a node.
renew scheduler "serverAuth, clientAuth" "DNS:scheduler, DNS:localhost, IP:127.0.0.1"
renew worker "serverAuth, clientAuth" "DNS:worker, DNS:localhost, IP:127.0.0.1"
renew client "clientAuth" "DNS:client"
