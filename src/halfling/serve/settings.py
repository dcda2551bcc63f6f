"""How the service listens, what it takes at once, and how long it waits."""

from pydantic import Field

from halfling.bounds import Amount, Count, Processes, Share, Size
from halfling.records import Settings


class ServeSettings(Settings):
    """Where the service listens and how much it takes."""

    host: str = Field("127.0.0.1", min_length=1, max_length=255, description="address to listen at")
    port: int = Field(8000, ge=0, le=65_535, description="0: any that is free")
    threads: Processes | None = Field(None, description="that compute for each model; as many as this process may use")
    max_batch_tokens: Size = Field(1024, ge=1, description="computed together; a longer sequence is computed alone")
    max_queue_tokens: Count = Field(65_536, ge=1, description="waiting for each model; what is more gets 429")
    max_concurrent_requests: int = Field(512, ge=1, le=65_536, description="at the same time; what is more gets 429")
    max_client_batch_size: int = Field(32, ge=1, le=65_536, description="texts of one request to predict")
    max_body_bytes: Amount = Field(2_000_000, ge=1, description="of a request; what is more gets 413")
    patience_seconds: float = Field(30, gt=0, le=86_400, description="for a request to arrive or an answer to be read")
    stop_seconds: int = Field(30, ge=0, le=86_400, description="for answering what was accepted before a stop")
    watch_share: Share = Field(0.0, description="of texts that are answered at full depth too, to report the agreement")
    auto_truncate: bool = Field(
        False, description="cut texts that are longer than the model reads, unless asked not to"
    )
