"""FastAPI with SQLAlchemy and asyncpg, without a rate limit.

``AUTOCOMMIT=1`` in the environment spares BEGIN and ROLLBACK around what only reads, which Django
does not send either; it is not what SQLAlchemy does by default.
"""

import os
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    String,
    delete,
    func,
    or_,
    select,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import declarative_base

FINISHED = ("SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED")
URL = os.environ["DATABASE_URL"].replace("postgres://", "postgresql+asyncpg://")
# pool_pre_ping looks whether a connection still lives, as Django's CONN_HEALTH_CHECKS does.
engine = create_async_engine(
    URL,
    pool_size=8,
    pool_pre_ping=True,
    connect_args={
        "timeout": 3,
        "server_settings": {"lock_timeout": "5s", "statement_timeout": "30s"},
    },
    **({"isolation_level": "AUTOCOMMIT"} if os.environ.get("AUTOCOMMIT") == "1" else {}),
)
session_maker = async_sessionmaker(engine, expire_on_commit=False)
Base = declarative_base()


class Token(Base):
    __tablename__ = "authtoken_token"
    key = Column(String, primary_key=True)
    user_id = Column(Integer)


class User(Base):
    __tablename__ = "auth_user"
    id = Column(Integer, primary_key=True)
    is_active = Column(Boolean)


class Membership(Base):
    __tablename__ = "auth_user_groups"
    id = Column(Integer, primary_key=True)
    user_id = Column(Integer)
    group_id = Column(Integer)


class Run(Base):
    __tablename__ = "actor_runs_run"
    id = Column(String, primary_key=True)
    user_id = Column(Integer)
    organization_id = Column(Integer)
    started_at = Column(DateTime(timezone=True))
    finished_at = Column(DateTime(timezone=True))
    exit_code = Column(Integer)
    usage_total_usd = Column(Float)
    is_status_message_terminal = Column(Boolean)
    is_container_server_ready = Column(Boolean)


for name in (
    "act_id actor_task_id status build_id build_number default_key_value_store_id "
    "default_dataset_id default_request_queue_id status_message general_access container_url "
    "git_branch_name platform_usage_billing_model"
).split():
    setattr(Run, name, Column(String))
for name in (
    "meta pricing_info stats charged_event_counts options storage_ids usage usage_usd metamorphs"
).split():
    setattr(Run, name, Column(JSONB))


class RunShort(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: str
    act_id: str
    user_id: int | None
    organization_id: int | None
    actor_task_id: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    build_id: str
    build_number: str
    meta: dict[str, Any]
    usage_total_usd: float | None
    default_key_value_store_id: str
    default_dataset_id: str
    default_request_queue_id: str


SHORT = [getattr(Run, name) for name in RunShort.model_fields]


class RunFull(RunShort):
    status_message: str
    is_status_message_terminal: bool | None
    pricing_info: dict[str, Any] | None
    stats: dict[str, Any]
    charged_event_counts: dict[str, int] | None
    options: dict[str, Any]
    exit_code: int | None
    general_access: str
    storage_ids: dict[str, Any] | None
    container_url: str
    is_container_server_ready: bool | None
    git_branch_name: str
    usage: dict[str, Any] | None
    usage_usd: dict[str, Any] | None
    metamorphs: list[Any] | None
    platform_usage_billing_model: str


class Single(BaseModel):
    data: RunFull


class Page(BaseModel):
    total: int
    offset: int
    limit: int
    count: int
    desc: bool
    items: list[RunShort]


class Listing(BaseModel):
    data: Page


async def get_session():
    async with session_maker() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_user(session: Session, authorization: Annotated[str, Header()] = "") -> int:
    scheme, _, key = authorization.partition(" ")
    user = None
    if scheme.lower() == "bearer":
        query = select(User.id).join(Token, Token.user_id == User.id)
        user = await session.scalar(query.where(Token.key == key, User.is_active))
    if user is None:
        raise HTTPException(401)
    return user


Caller = Annotated[int, Depends(get_user)]
application = FastAPI(docs_url=None, openapi_url=None)


def mine(user):
    organizations = select(Membership.group_id).where(Membership.user_id == user)
    return or_(Run.user_id == user, Run.organization_id.in_(organizations))


@application.get("/v2/actor-runs")
async def list_runs(session: Session, user: Caller, limit: int = 1000, offset: int = 0) -> Listing:
    total = await session.scalar(select(func.count()).select_from(Run).where(mine(user)))
    query = select(*SHORT).where(mine(user)).order_by(Run.started_at, Run.id)
    items = (await session.execute(query.limit(limit).offset(offset))).all()
    page = Page(
        total=total, offset=offset, limit=limit, count=len(items), desc=False,
        items=[RunShort.model_validate(item) for item in items],
    )  # fmt: skip
    return Listing(data=page)


@application.get("/v2/actor-runs/{run_id}")
async def get_run(session: Session, user: Caller, run_id: str) -> Single:
    run = await session.scalar(select(Run).where(Run.id == run_id, mine(user)))
    if run is None:
        raise HTTPException(404)
    return Single(data=RunFull.model_validate(run))


@application.delete("/v2/actor-runs/{run_id}")
async def delete_run(session: Session, user: Caller, run_id: str) -> Response:
    status = await session.scalar(select(Run.status).where(Run.id == run_id, mine(user)))
    if status is None:
        raise HTTPException(404)
    if status not in FINISHED:
        raise HTTPException(400, "Only finished runs can be deleted.")
    result = await session.execute(delete(Run).where(Run.id == run_id, Run.status.in_(FINISHED)))
    await session.commit()
    return Response(status_code=204 if result.rowcount else 404)
